/* A daemon's side of the conversation with one child, and nothing else of a daemon: what a client library costs by itself.
 *
 *     drive BATCHES LINE_FILE COMMAND…      LINE_FILE holds one processRecords line
 *
 * Says initialize, then the line so many times; stores every checkpoint at once. Prints, as JSON, the seconds it all took, the child's
 * CPU seconds in that time, and the microseconds of the median, the 99th and the last percentile of one turn. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Before anything is counted: just-in-time compilers have to see the code first. */
#define WARM_UP_PART 5

/* The pipe of a child that gets long lines, as the daemon widens it. */
#define WIDE_BYTES (512 * 1024)

static const char initialize[] = "{\"action\":\"initialize\",\"shardId\":\"shardId-000000000000\",\"sequenceNumber\":\"TRIM_HORIZON\",\"subSequenceNumber\":0}\n";
static const char stored[] = "{\"action\":\"checkpoint\",\"sequenceNumber\":null,\"subSequenceNumber\":null,\"error\":null}\n";

static int to_child, from_child;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0)
        fail("clock_gettime");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void write_all(const char *at, size_t count)
{
    while (count) {
        ssize_t wrote = write(to_child, at, count);
        if (wrote < 0)
            fail("write to the child");
        at += wrote;
        count -= (size_t)wrote;
    }
}

/* One message, and what it asks for, until its status has come. */
static void turn(const char *line, size_t length)
{
    static char buffer[65536];
    size_t filled = 0;
    write_all(line, length);
    for (;;) {
        char *end;
        while (!(end = memchr(buffer, '\n', filled))) {
            ssize_t got = read(from_child, buffer + filled, sizeof buffer - filled);
            if (got <= 0) {
                fprintf(stderr, "the child is gone\n");
                exit(1);
            }
            filled += (size_t)got;
        }
        size_t line_end = (size_t)(end - buffer);
        int is_status = memmem(buffer, line_end, "\"status\"", 8) != NULL;
        int is_checkpoint = memmem(buffer, line_end, "\"checkpoint\"", 12) != NULL;
        filled -= line_end + 1;
        memmove(buffer, end + 1, filled);
        if (is_status)
            return;
        if (is_checkpoint)
            write_all(stored, sizeof stored - 1);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static char *contents(const char *path, size_t *length)
{
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        fail(path);
    char *line = malloc((size_t)status.st_size);
    for (*length = 0; *length < (size_t)status.st_size;) {
        ssize_t got = read(fd, line + *length, (size_t)status.st_size - *length);
        if (got <= 0)
            fail(path);
        *length += (size_t)got;
    }
    return line;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int batches = atoi(argv[1]), down[2], up[2];
    size_t length;
    char *line = contents(argv[2], &length);
    if (pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0)
        fail("pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        execvp(argv[3], argv + 3);
        fail(argv[3]);
    }
    close(down[0]);
    close(up[1]);
    to_child = down[1], from_child = up[0];
    if (length > WIDE_BYTES && fcntl(to_child, F_SETPIPE_SZ, WIDE_BYTES) < 0)
        fail("F_SETPIPE_SZ");
    turn(initialize, sizeof initialize - 1);
    for (int n = 0; n < batches / WARM_UP_PART; n++)
        turn(line, length);
    clockid_t cpu;
    if (clock_getcpuclockid(child, &cpu))
        fail("clock_getcpuclockid");
    double *took = malloc(sizeof *took * (size_t)batches);
    double cpu_before = seconds(cpu), began = seconds(CLOCK_MONOTONIC);
    for (int n = 0; n < batches; n++) {
        double before = seconds(CLOCK_MONOTONIC);
        turn(line, length);
        took[n] = seconds(CLOCK_MONOTONIC) - before;
    }
    double all = seconds(CLOCK_MONOTONIC) - began, cpu_all = seconds(cpu) - cpu_before;
    qsort(took, (size_t)batches, sizeof *took, ascending);
    printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"median_us\": %.1f, \"p99_us\": %.1f}\n", all, cpu_all, took[batches / 2] * 1e6,
           took[batches * 99 / 100] * 1e6);
    close(to_child);
    waitpid(child, NULL, 0);
    return 0;
}
