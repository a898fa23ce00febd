/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of /dev/kvm and of a VM. Those of a vCPU are in kvm_vcpu.c. */
#include "vmm/kvm/kvm.h"

#include "base/fd.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#define CPUID_MAX_ENTRIES 4096 /* far above KVM_MAX_CPUID_ENTRIES of any kernel (80, then 256) */
#define MSR_MAX_ENTRIES	  4096

static int ioctl_errno(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc < 0 ? -errno : rc;
}

static int ioctl_value(int fd, unsigned long request, unsigned long value)
{
	int rc = ioctl(fd, request, value);

	return rc < 0 ? -errno : rc;
}

/* What KVM says to an extension: 0 = not there. */
static unsigned extension(const struct kvm_vm *vm, int cap)
{
	int rc = ioctl(vm->fd >= 0 ? vm->fd : vm->dev_fd, KVM_CHECK_EXTENSION, cap);

	return rc > 0 ? (unsigned)rc : 0;
}

static int enable_cap(struct kvm_vm *vm, unsigned cap, uint64_t arg0)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {arg0}};

	return ioctl_errno(vm->fd, KVM_ENABLE_CAP, &enable);
}

static int open_device(struct kvm_vm *vm, struct err *err)
{
	int version;

	vm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->dev_fd < 0)
		return err_set_errno(err, -errno, "Cannot open /dev/kvm");
	version = ioctl_value(vm->dev_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return err_set_errno(err, version, "/dev/kvm does not tell its API version");
	if (version != KVM_API_VERSION)
		return err_set(err, -ENOTSUP, "/dev/kvm has API version %d, not %d", version,
			       KVM_API_VERSION);
	return 0;
}

static int check_required(const struct kvm_vm *vm, struct err *err)
{
	static const struct {
		int cap;
		const char *name;
	} required[] = {
		{KVM_CAP_USER_MEMORY, "user memory (KVM_CAP_USER_MEMORY)"},
		{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
		{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
		{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
		{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
		{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
		{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
		{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
		{KVM_CAP_IRQFD, "irqfd (KVM_CAP_IRQFD)"},
		{KVM_CAP_IOEVENTFD, "ioeventfd (KVM_CAP_IOEVENTFD)"},
		{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
		{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
		{KVM_CAP_SPLIT_IRQCHIP, "a split irqchip (KVM_CAP_SPLIT_IRQCHIP)"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
		{KVM_CAP_ADJUST_CLOCK, "kvmclock (KVM_CAP_ADJUST_CLOCK)"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(required); i++)
		if (!extension(vm, required[i].cap))
			return err_set(err, -ENOTSUP, "The host's KVM lacks %s", required[i].name);
	return 0;
}

static void read_caps(struct kvm_vm *vm)
{
	struct kvm_caps *caps = &vm->caps;
	unsigned soft_max = extension(vm, KVM_CAP_NR_VCPUS);

	caps->tsc_deadline = extension(vm, KVM_CAP_TSC_DEADLINE_TIMER);
	caps->immediate_exit = extension(vm, KVM_CAP_IMMEDIATE_EXIT);
	caps->x2apic_api = extension(vm, KVM_CAP_X2APIC_API);
	caps->disable_exits = extension(vm, KVM_CAP_X86_DISABLE_EXITS);
	caps->vm_tsc_control = extension(vm, KVM_CAP_VM_TSC_CONTROL);
	caps->tsc_control = extension(vm, KVM_CAP_TSC_CONTROL);
	caps->get_tsc_khz = extension(vm, KVM_CAP_GET_TSC_KHZ);
	caps->adjust_clock_stable = extension(vm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_TSC_STABLE;
	/* The defaults are the API document's for kernels that do not say. */
	caps->max_vcpus = extension(vm, KVM_CAP_MAX_VCPUS);
	if (!caps->max_vcpus)
		caps->max_vcpus = soft_max ? soft_max : 4;
	caps->max_vcpu_id = extension(vm, KVM_CAP_MAX_VCPU_ID);
	if (!caps->max_vcpu_id)
		caps->max_vcpu_id = caps->max_vcpus;
	caps->max_memslots = extension(vm, KVM_CAP_NR_MEMSLOTS);
	if (!caps->max_memslots)
		caps->max_memslots = 32;
	caps->max_irq_routes = extension(vm, KVM_CAP_IRQ_ROUTING);
	kvm_vm_refresh_xsave_size(vm);
}

void kvm_vm_refresh_xsave_size(struct kvm_vm *vm)
{
	vm->caps.xsave_size = MAX(extension(vm, KVM_CAP_XSAVE2),
				  (unsigned)sizeof(((struct kvm_xsave *)0)->region));
}

static int create_vm(struct kvm_vm *vm, struct err *err)
{
	/* It takes every lock of our address space and gives up when a signal comes. */
	do {
		vm->fd = ioctl_value(vm->dev_fd, KVM_CREATE_VM, 0);
	} while (vm->fd == -EINTR);
	if (vm->fd < 0)
		return err_set_errno(err, vm->fd, "Cannot create a KVM virtual machine");
	vm->run_size = ioctl_value(vm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vm->run_size < (int)sizeof(struct kvm_run))
		return err_set(err, -ENOTSUP, "KVM's vCPU area is too small (%d bytes)",
			       vm->run_size);
	return 0;
}

static int set_up_platform(struct kvm_vm *vm, unsigned max_apic_id, struct err *err)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY_MAP;
	int rc;

	rc = ioctl_errno(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (rc < 0)
		return err_set_errno(err, rc, "KVM refuses the identity map's address");
	rc = ioctl_value(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS);
	if (rc < 0)
		return err_set_errno(err, rc, "KVM refuses the TSS address");
	rc = enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, LAYOUT_IOAPIC_PINS);
	if (rc < 0)
		return err_set_errno(err, rc, "KVM cannot split the irqchip");
	if (max_apic_id <= 254)
		return 0;
	if (!vm->caps.x2apic_api)
		return err_set(err, -ENOTSUP,
			       "APIC id %u takes KVM_CAP_X2APIC_API, which the host's KVM lacks",
			       max_apic_id);
	rc = enable_cap(vm, KVM_CAP_X2APIC_API,
			KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	if (rc < 0)
		return err_set_errno(err, rc, "KVM refuses 32-bit APIC ids");
	return 0;
}

int kvm_vm_new(unsigned max_apic_id, struct kvm_vm **ret_vm, struct err *err)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));
	int rc;

	if (!vm)
		return err_set(err, -ENOMEM, "Out of memory");
	vm->dev_fd = -1;
	vm->fd = -1;
	rc = open_device(vm, err);
	if (rc == 0)
		rc = create_vm(vm, err);
	if (rc == 0)
		rc = check_required(vm, err);
	if (rc == 0) {
		read_caps(vm);
		rc = set_up_platform(vm, max_apic_id, err);
	}
	if (rc == 0 && max_apic_id >= vm->caps.max_vcpu_id)
		rc = err_set(err, -E2BIG, "APIC id %u is too high: the host's KVM ends at %u",
			     max_apic_id, vm->caps.max_vcpu_id - 1);
	if (rc < 0) {
		kvm_vm_free(vm);
		return rc;
	}
	*ret_vm = vm;
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	if (!vm)
		return;
	fd_close(&vm->fd);
	fd_close(&vm->dev_fd);
	free(vm);
}

int kvm_vm_set_memory(struct kvm_vm *vm, unsigned slot, uint64_t guest_addr, uint64_t size_bytes,
		      void *host, unsigned flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = guest_addr,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)host,
	};

	return ioctl_errno(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

int kvm_vm_get_dirty_log(struct kvm_vm *vm, unsigned slot, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

	return ioctl_errno(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

int kvm_vm_set_gsi_routing(struct kvm_vm *vm, const struct kvm_irq_routing *routing)
{
	int rc = ioctl(vm->fd, KVM_SET_GSI_ROUTING, routing);

	return rc < 0 ? -errno : 0;
}

int kvm_vm_irqfd(struct kvm_vm *vm, unsigned gsi, int eventfd, bool assign)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)eventfd,
		.gsi = gsi,
		.flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return ioctl_errno(vm->fd, KVM_IRQFD, &irqfd);
}

int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	return ioctl_errno(vm->fd, KVM_SIGNAL_MSI, &msi);
}

int kvm_vm_ioeventfd(struct kvm_vm *vm, uint64_t addr, unsigned len, bool pio, int eventfd,
		     bool assign)
{
	struct kvm_ioeventfd io = {
		.addr = addr,
		.len = len,
		.fd = eventfd,
		.flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl_errno(vm->fd, KVM_IOEVENTFD, &io);
}

int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret)
{
	memset(ret, 0, sizeof(*ret));
	return ioctl_errno(vm->fd, KVM_GET_CLOCK, ret);
}

int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
	struct kvm_clock_data copy = *clock;

	return ioctl_errno(vm->fd, KVM_SET_CLOCK, &copy);
}

int kvm_get_supported_cpuid(struct kvm_vm *vm, struct kvm_cpuid2 **ret, struct err *err)
{
	/* KVM says E2BIG until there is room for all. */
	for (unsigned n = 128; n <= CPUID_MAX_ENTRIES; n *= 2) {
		struct kvm_cpuid2 *cpuid;
		int rc;

		cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));
		if (!cpuid)
			return err_set(err, -ENOMEM, "Out of memory");
		cpuid->nent = n;
		rc = ioctl_errno(vm->dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
		if (rc >= 0) {
			*ret = cpuid;
			return 0;
		}
		free(cpuid);
		if (rc != -E2BIG)
			return err_set_errno(err, rc, "KVM does not tell which CPUID it supports");
	}
	return err_set(err, -E2BIG, "KVM supports more CPUID leaves than there can be");
}

int kvm_get_msr_index_list(struct kvm_vm *vm, struct kvm_msr_list **ret)
{
	struct kvm_msr_list probe = {.nmsrs = 0};
	struct kvm_msr_list *list;
	int rc;

	rc = ioctl_errno(vm->dev_fd, KVM_GET_MSR_INDEX_LIST, &probe);
	if (rc < 0 && rc != -E2BIG)
		return rc;
	if (probe.nmsrs > MSR_MAX_ENTRIES)
		return -E2BIG;
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return -ENOMEM;
	list->nmsrs = probe.nmsrs;
	rc = ioctl_errno(vm->dev_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (rc < 0) {
		free(list);
		return rc;
	}
	*ret = list;
	return 0;
}
