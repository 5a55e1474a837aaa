/* The child of every bench: reads the daemon's lines and answers with a status. Knows only each line's action. With $BENCH_CHECKPOINT
 * set, it asks for a checkpoint after every batch; with $BENCH_STALL set, it reads nothing after its initialize.
 *
 * What it saw stands in a file of its own in $BENCH_COUNTS, as eight 64-bit numbers: see `struct counts`, and `Counts` in world.py. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct counts {
    uint64_t started_ns;  /* since the epoch, as all times here */
    uint64_t first_ns;    /* the first batch had been read */
    uint64_t last_ns;     /* the last one */
    uint64_t gap_ns;      /* the longest time between two batches */
    uint64_t gap_end_ns;  /* when that was over */
    uint64_t batches;
    uint64_t records;
    uint64_t bytes;       /* of batches */
};

/* No line begins with more than this before its action. */
#define ACTION_WITHIN 64

static const char *actions[] = {"processRecords", "initialize", "shardEnded", "shutdownRequested", "leaseLost", "checkpoint"};
enum { PROCESS_RECORDS = 0, INITIALIZE = 1, CHECKPOINT = 5 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct counts *shared_counts(void)
{
    char path[4096];
    const char *dir = getenv("BENCH_COUNTS");
    if (!dir)
        return calloc(1, sizeof(struct counts));
    snprintf(path, sizeof path, "%s/%d", dir, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, sizeof(struct counts)) < 0)
        fail(path);
    void *at = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        fail("mmap");
    close(fd);
    return at;
}

static uint64_t records_in(const char *line, size_t length)
{
    static const char mark[] = "\"action\":\"record\"";
    uint64_t found = 0;
    const char *end = line + length;
    for (const char *at = line; (at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1)); at += sizeof mark - 1)
        found++;
    return found;
}

static void say(const char *action, const char *about)
{
    char line[128];
    int size = snprintf(line, sizeof line, "{\"action\":\"%s\",%s}\n", action, about);
    if (write(1, line, (size_t)size) != size)
        exit(0); /* the daemon is gone */
}

static void answer(struct counts *counts, int is_checkpointing, const char *line, size_t length)
{
    size_t head = length < ACTION_WITHIN ? length : ACTION_WITHIN;
    for (size_t n = 0; n < sizeof actions / sizeof *actions; n++) {
        if (!memmem(line, head, actions[n], strlen(actions[n])))
            continue;
        if (n == PROCESS_RECORDS) {
            uint64_t now = now_ns();
            if (!counts->first_ns)
                counts->first_ns = now;
            else if (now - counts->last_ns > counts->gap_ns) {
                counts->gap_ns = now - counts->last_ns;
                counts->gap_end_ns = now;
            }
            counts->last_ns = now;
            counts->batches++;
            counts->records += records_in(line, length);
            counts->bytes += length;
        }
        if (n == PROCESS_RECORDS && is_checkpointing) {
            say("checkpoint", "\"sequenceNumber\":null,\"subSequenceNumber\":null");
            return;
        }
        char about[64];
        snprintf(about, sizeof about, "\"responseFor\":\"%s\"", actions[n == CHECKPOINT ? PROCESS_RECORDS : n]);
        say("status", about);
        while (n == INITIALIZE && getenv("BENCH_STALL"))
            pause();
        return;
    }
    fprintf(stderr, "a line without an action: %.*s\n", (int)head, line);
    exit(1);
}

int main(void)
{
    struct counts *counts = shared_counts();
    int is_checkpointing = getenv("BENCH_CHECKPOINT") != NULL;
    counts->started_ns = now_ns();
    size_t room = 1 << 20, filled = 0, searched = 0;
    char *buffer = malloc(room);
    for (;;) {
        if (filled == room && !(buffer = realloc(buffer, room *= 2)))
            fail("realloc");
        ssize_t got = read(0, buffer + filled, room - filled);
        if (got <= 0)
            return 0;
        filled += (size_t)got;
        char *end;
        size_t start = 0;
        while ((end = memchr(buffer + searched, '\n', filled - searched))) {
            answer(counts, is_checkpointing, buffer + start, (size_t)(end - buffer) - start);
            start = searched = (size_t)(end - buffer) + 1;
        }
        memmove(buffer, buffer + start, filled -= start);
        searched = filled;
    }
}
