/* A host in C for `icp-harness boundary`: takes the event, then does `<arm> <count>` for each line,
   and answers nanoseconds on the wall, of processor time, and of the median call. */
#include "icp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT 256

static char event[1 << 16];
static size_t event_len;
static icp_engine *engine;
static icp_queue *queue;
static _Alignas(8) uint8_t buffer[1 << 18];

static void check(int32_t status) {
    if (status != ICP_OK) {
        fprintf(stderr, "status %d\n", status);
        exit(1);
    }
}

static int64_t now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

/* How many ended, at least one. */
static long drained(void) {
    size_t needed;
    int64_t bytes = icp_queue_drain(queue, buffer, sizeof buffer, -1, &needed);
    long ended = 0;
    for (int64_t at = 0; at < bytes;) {
        icp_item item;
        memcpy(&item, buffer + at, sizeof item);
        check(item.status);
        ended++;
        at += (int64_t)(sizeof item + (item.len + 7u) / 8u * 8u);
    }
    return ended;
}

static void submit(uint32_t op, const char *body, size_t len) {
    check(icp_submit(engine, queue, op, 0, (const uint8_t *)body, len, NULL));
}

static void ask(uint32_t op, const char *body) {
    submit(op, body, strlen(body));
    drained();
}

static void opened(const char *store) {
    char config[512];
    int len = snprintf(config, sizeof config, "{\"store\":\"%s\"}", store);
    check(icp_engine_new(ICP_ABI_VERSION, (const uint8_t *)config, (size_t)len, &engine, NULL));
    check(icp_queue_new(engine, 0, &queue, NULL));
    ask(ICP_OP_START, "{}");
    ask(ICP_OP_RESOURCE_PUT,
        "{\"kind\":\"organization\",\"org\":\"acme\",\"document\":{\"spec\":{}}}");
}

static void closed(void) {
    ask(ICP_OP_SHUTDOWN, "{\"drain_ms\":1000}");
    icp_engine_free(engine);
    icp_queue_free(queue);
}

static void all(uint32_t op, const char *body, size_t len, long calls, long at_once) {
    long begun = 0, ended = 0;
    while (ended < calls) {
        while (begun < calls && begun - ended < at_once) {
            submit(op, body, len);
            begun++;
        }
        ended += drained();
    }
}

static int by_size(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static int64_t one_by_one(long calls) {
    int64_t *took = calloc((size_t)calls, sizeof *took);
    for (long call = 0; call < calls; call++) {
        int64_t began = now(CLOCK_MONOTONIC);
        submit(ICP_OP_PUBLISH, event, event_len);
        drained();
        took[call] = now(CLOCK_MONOTONIC) - began;
    }
    qsort(took, (size_t)calls, sizeof *took, by_size);
    int64_t median = took[calls / 2];
    free(took);
    return median;
}

int main(void) {
    char line[256];
    if (fgets(event, sizeof event, stdin) == NULL) {
        return 1;
    }
    event_len = strcspn(event, "\n");
    size_t many_len = IN_FLIGHT * (event_len + 1) + 1;
    char *many = malloc(many_len);
    for (long at = 0; at < IN_FLIGHT; at++) {
        char *to = many + (size_t)at * (event_len + 1);
        *to = at == 0 ? '[' : ',';
        memcpy(to + 1, event, event_len);
    }
    many[many_len - 1] = ']';
    while (fgets(line, sizeof line, stdin) != NULL) {
        char arm[32], folder[] = "/tmp/icp-boundary-XXXXXX", store[64] = "memory:";
        long count;
        if (sscanf(line, "%31s %ld", arm, &count) != 2) {
            return 1;
        }
        if (strcmp(arm, "durable") == 0) {
            if (mkdtemp(folder) == NULL) {
                return 1;
            }
            snprintf(store, sizeof store, "sqlite:%s/icp.db", folder);
        }
        opened(store);
        int64_t median = 0, wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        if (strcmp(arm, "one") == 0) {
            median = one_by_one(count);
        } else if (strcmp(arm, "many") == 0) {
            all(ICP_OP_PUBLISH_MANY, many, many_len, count / IN_FLIGHT, 2);
        } else {
            all(ICP_OP_PUBLISH, event, event_len, count, IN_FLIGHT);
        }
        wall = now(CLOCK_MONOTONIC) - wall;
        cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        closed();
        if (strcmp(arm, "durable") == 0) {
            snprintf(line, sizeof line, "%s/icp.db", folder);
            unlink(line);
            rmdir(folder);
        }
        printf("%lld %lld %lld\n", (long long)wall, (long long)cpu, (long long)median);
        fflush(stdout);
    }
    free(many);
    return 0;
}
