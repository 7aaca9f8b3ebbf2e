/* A GnuTLS that makes a connection for each line on standard input.
 *
 *     client HOST PORT CA VERSION DIR [early]
 */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static gnutls_certificate_credentials_t trust;
static gnutls_datum_t session; /* of the connection before */

static const char *visit(const char *host, int port, const char *priority, int early)
{
	gnutls_session_t s;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	char request[512], answer[4096];
	const char *why = NULL;
	int fd, n, got = 0;
	size_t sent = 0;

	snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return "connect";
	gnutls_init(&s, GNUTLS_CLIENT | (early ? GNUTLS_ENABLE_EARLY_START : 0));
	gnutls_priority_set_direct(s, priority, NULL);
	gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, trust);
	gnutls_server_name_set(s, GNUTLS_NAME_DNS, host, strlen(host));
	gnutls_session_set_verify_cert(s, host, 0);
	gnutls_transport_set_int(s, fd);
	if (session.size > 0) {
		gnutls_session_set_data(s, session.data, session.size);
		if (early && gnutls_record_send_early_data(s, request, strlen(request)) == 0)
			sent = strlen(request);
	}
	do
		n = gnutls_handshake(s);
	while (n < 0 && !gnutls_error_is_fatal(n));
	if (n < 0) {
		why = gnutls_strerror(n);
		goto end;
	}
	if (sent == 0 || !(gnutls_session_get_flags(s) & GNUTLS_SFLAGS_EARLY_DATA))
		gnutls_record_send(s, request, strlen(request));
	while (got < (int)sizeof answer - 1) {
		n = gnutls_record_recv(s, answer + got, sizeof answer - 1 - got);
		if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
			continue;
		if (n <= 0)
			break;
		got += n;
	}
	answer[got] = 0;
	if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
		why = got > 0 ? "the answer is not 200" : gnutls_strerror(n);
	gnutls_free(session.data);
	session.size = 0;
	session.data = NULL;
	gnutls_session_get_data2(s, &session);
end:
	gnutls_deinit(s);
	close(fd);
	return why;
}

int main(int argc, char **argv)
{
	char line[64];
	const char *priority = "NORMAL";

	if (argc < 6)
		return 2;
	if (strcmp(argv[4], "1.2") == 0)
		priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
	if (strcmp(argv[4], "1.3") == 0)
		priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
	gnutls_certificate_allocate_credentials(&trust);
	if (gnutls_certificate_set_x509_trust_file(trust, argv[3], GNUTLS_X509_FMT_PEM) < 1)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		const char *why = visit(argv[1], atoi(argv[2]), priority, argc > 6 && strcmp(argv[6], "early") == 0);
		if (why)
			printf("error: %s\n", why);
		else
			puts("ok");
	}
	return 0;
}
