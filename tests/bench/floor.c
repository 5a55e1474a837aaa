/* The floor: reads answers of GetRecords from a socket and writes their bytes into a pipe, and nothing else. What remains when a daemon
 * does no work at all.
 *
 *     floor PORT ANSWERS | reader          prints "BYTES NANOSECONDS OF CPU" to stderr */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* As much as the largest pipe takes at once, and small enough for the processor's cache. */
#define BUFFER_BYTES (256 * 1024)

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void write_all(int fd, const char *at, size_t count)
{
    while (count) {
        ssize_t wrote = write(fd, at, count);
        if (wrote < 0)
            fail("write");
        at += wrote;
        count -= (size_t)wrote;
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to) < 0)
        fail("connect");
    static const char request[] =
        "POST / HTTP/1.1\r\nhost: floor\r\ncontent-type: application/x-amz-json-1.1\r\n"
        "x-amz-target: Kinesis_20131202.GetRecords\r\ncontent-length: 49\r\n\r\n"
        "{\"ShardIterator\":\"synthetic-000000000000-123456\"}";
    static char buffer[BUFFER_BYTES];
    uint64_t bytes = 0;
    for (int left = atoi(argv[2]); left > 0; left--) {
        write_all(s, request, sizeof request - 1);
        size_t filled = 0, body = 0;
        char *end = NULL;
        while (!end) { /* the head, with whatever of the body came along */
            ssize_t got = read(s, buffer + filled, sizeof buffer - 1 - filled);
            if (got <= 0)
                fail("read");
            filled += (size_t)got;
            buffer[filled] = 0;
            end = strstr(buffer, "\r\n\r\n");
        }
        char *length = strcasestr(buffer, "content-length:");
        if (!length)
            fail("no content-length");
        body = strtoull(length + sizeof "content-length:" - 1, NULL, 10);
        bytes += body;
        size_t here = filled - (size_t)(end + 4 - buffer);
        write_all(1, end + 4, here);
        body -= here;
        while (body) {
            ssize_t got = read(s, buffer, body < sizeof buffer ? body : sizeof buffer);
            if (got <= 0)
                fail("read");
            write_all(1, buffer, (size_t)got);
            body -= (size_t)got;
        }
    }
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    fprintf(stderr, "%llu %llu\n", (unsigned long long)bytes, (unsigned long long)cpu.tv_sec * 1000000000u + (unsigned long long)cpu.tv_nsec);
    return 0;
}
