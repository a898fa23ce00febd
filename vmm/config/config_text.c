/* SPDX-License-Identifier: Apache-2.0 */
/* Words for messages, and the formats of strings. */
#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static size_t path_append(const struct config_path *path, char *buf, size_t len)
{
	size_t used = path->up ? path_append(path->up, buf, len) : 0;
	int n;

	if (path->name)
		n = snprintf(buf + used, len - used, "%s%s", used ? "." : "", path->name);
	else
		n = snprintf(buf + used, len - used, "[%zu]", path->index);
	return n < 0 ? used : MIN(used + (size_t)n, len - 1);
}

char *config_path_format(const struct config_path *path, char buf[CONFIG_PATH_MAX])
{
	buf[0] = '\0';
	if (path)
		path_append(path, buf, CONFIG_PATH_MAX);
	return buf;
}

char *config_quote(const char *text, char buf[CONFIG_QUOTE_MAX])
{
	size_t n = strnlen(text, CONFIG_QUOTE_MAX);
	bool cut = n > CONFIG_QUOTE_MAX - 1;

	if (cut)
		n = CONFIG_QUOTE_MAX - 4;
	for (size_t i = 0; i < n; i++)
		buf[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	strcpy(buf + n, cut ? "..." : "");
	return buf;
}

char *config_enum_list(const struct config_enum_value *values, bool keys, char *buf, size_t len)
{
	size_t used = 0;

	buf[0] = '\0';
	for (; values->name; values++) {
		const char *word = keys ? values->key : values->name;
		int n;

		if (!word)
			continue;
		n = snprintf(buf + used, len - used, "%s%s", used ? ", " : "", word);
		if (n < 0 || (size_t)n >= len - used)
			break;
		used += (size_t)n;
	}
	return buf;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int vm_config_parse_mac(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	if (strnlen(text, 18) != 17)
		return -EINVAL;
	for (size_t i = 0; i < 6; i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return 0;
}

static bool is_ip(const char *text)
{
	unsigned char addr[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, text, addr) == 1 || inet_pton(AF_INET6, text, addr) == 1;
}

int config_check_string(const struct config_field *field, const char *value, const char *where,
			struct err *err)
{
	size_t max = field->max ? field->max : CONFIG_STRING_MAX;
	char quoted[CONFIG_QUOTE_MAX];
	uint8_t mac[6];

	if (strnlen(value, max + 1) > max)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: is longer than %zu bytes",
				    where, max);
	if (field->format == CONFIG_MAC && vm_config_parse_mac(value, mac) < 0)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: \"%s\" is not a MAC address (xx:xx:xx:xx:xx:xx)", where,
				    config_quote(value, quoted));
	if (field->format == CONFIG_IP && !is_ip(value))
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: \"%s\" is not an IPv4 or IPv6 address", where,
				    config_quote(value, quoted));
	return 0;
}
