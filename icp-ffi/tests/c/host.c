/* A host in C: publishes to a receiver, is a handler, makes every mistake the header allows, and
   stops with work in flight. Exits with 0 when all went as it should, and frees everything. What
   watches it has to notice mistakes of its own: with LEAK one error is not freed, with FREED it is
   read after that, with SHIFT a shift is too wide. */
#include "icp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(icp_item) == 24, "the header of a record is frozen");
_Static_assert(offsetof(icp_item, status) == 12 && offsetof(icp_item, len) == 16, "and its fields");

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

static icp_engine *engine;
static icp_queue *queue;
static _Alignas(8) uint8_t buffer[1 << 16];
static int64_t filled;
static int64_t at;

/* The next record; its body is not ended by a zero byte. */
static icp_item next(const char **body) {
    if (at == filled) {
        size_t needed = 0;
        at = 0;
        filled = icp_queue_drain(queue, buffer, sizeof buffer, 60000, &needed);
        CHECK(needed == 0);
        CHECK(filled > 0);
    }
    icp_item item;
    memcpy(&item, buffer + at, sizeof item);
    *body = (const char *)buffer + at + sizeof item;
    at += (int64_t)(sizeof item + (item.len + 7u) / 8u * 8u);
    return item;
}

static void submit(uint32_t op, uint64_t tag, const char *body) {
    icp_error *error = NULL;
    int32_t status =
        icp_submit(engine, queue, op, tag, (const uint8_t *)body, strlen(body), &error);
    if (status != ICP_OK) {
        fprintf(stderr, "%s\n", icp_error_json(error));
    }
    CHECK(status == ICP_OK);
}

/* Whether requests are answered, or left to time out. */
static int answering = 1;

/* Whether a body has this text in it. */
static int has(const char *body, uint32_t len, const char *text) {
    size_t size = strlen(text);
    for (size_t from = 0; from + size <= len; from++) {
        if (memcmp(body + from, text, size) == 0) {
            return 1;
        }
    }
    return 0;
}

static void answer_request(uint64_t request, const char *body, uint32_t len) {
    const char *made = has(body, len, "\"kind\":\"filter\"") ? "{\"pass\":true}"
                                                            : "{\"payload\":{\"made\":\"in C\"}}";
    if (answering) {
        CHECK(icp_respond(engine, request, 0, (const uint8_t *)made, strlen(made)) == ICP_OK);
        CHECK(icp_respond(engine, request, 0, NULL, 0) == ICP_E_UNKNOWN_REQUEST);
    }
}

/* The status of an operation, once it has ended; its answer is in `answer`. */
static int32_t ended(uint64_t tag, char *answer, size_t room) {
    for (;;) {
        const char *body;
        icp_item item = next(&body);
        if (item.kind == ICP_ITEM_COMPLETION && item.tag == tag) {
            CHECK(item.len < room);
            memcpy(answer, body, item.len);
            answer[item.len] = 0;
            return item.status;
        }
        if (item.kind == ICP_ITEM_REQUEST) {
            answer_request(item.tag, body, item.len);
        }
    }
}

static int32_t ask(uint32_t op, const char *body, char *answer, size_t room) {
    static uint64_t tag = 1000;
    submit(op, ++tag, body);
    return ended(tag, answer, room);
}

/* What a log is told: from threads of the library, one at a time. */
static struct { int lines, runs, freed; } told;

static void tell(void *env, int32_t level, const uint8_t *json, size_t len) {
    CHECK(env == &told && level >= ICP_LOG_ERROR && level <= ICP_LOG_INFO);
    CHECK(len > 0 && json[0] == '{');
    static const char runs[] = "\"message\":\"the engine runs\"";
    for (size_t from = 0; from + sizeof runs <= len; from++) {
        told.runs += memcmp(json + from, runs, sizeof runs - 1) == 0;
    }
    told.lines++;
}

static void forget(void *env) {
    CHECK(env == &told);
    told.freed++;
}

static void mistakes(void) {
    icp_error *error = NULL;
    icp_engine *none = NULL;
    const char *config = "{\"store\":\"nowhere:\"}";
    CHECK(icp_engine_new(ICP_ABI_VERSION, (const uint8_t *)config, strlen(config), &none, &error) ==
          ICP_E_INVALID);
    CHECK(none == NULL && icp_error_code(error) == ICP_E_INVALID);
    CHECK(strstr(icp_error_json(error), "\"path\":\"/store\"") != NULL);
    CHECK(strlen(icp_error_message(error)) > 0);
    const char *message = icp_error_message(error);
    if (getenv("LEAK") == NULL) {
        icp_error_free(error);
    }
    if (getenv("FREED") != NULL) {
        CHECK(message[0] != 0);
    }
    if (getenv("SHIFT") != NULL) {
        CHECK(1 << (31 + atoi(getenv("SHIFT"))) != 1);
    }
    CHECK(icp_engine_new(ICP_ABI_VERSION + (1u << 16), NULL, 0, &none, NULL) == ICP_E_ABI);
    CHECK(icp_submit(NULL, queue, ICP_OP_START, 1, NULL, 0, NULL) == ICP_E_INVALID);
    CHECK(icp_submit(engine, queue, 12345, 1, NULL, 0, NULL) == ICP_E_UNSUPPORTED);
    CHECK(icp_log_to_callback(NULL, NULL, NULL, ICP_LOG_INFO, NULL) == ICP_E_INVALID);
    CHECK(icp_log_to_callback(tell, &told, forget, 9, NULL) == ICP_E_INVALID && told.freed == 1);
    told.freed = 0;
    CHECK(icp_cancel(engine, queue, 4711) == ICP_E_NOT_CANCELLABLE);
    CHECK(icp_respond(engine, 4711, 0, NULL, 0) == ICP_E_UNKNOWN_REQUEST);
    CHECK(icp_error_message(NULL) == NULL);
    icp_error_free(NULL);
    icp_buf_free(NULL, 0);
}

int main(int argc, char **argv) {
    static char answer[1 << 15], text[4096];
    CHECK(argc == 3);
    const char *url = argv[1];
    CHECK(icp_abi_version() == ICP_ABI_VERSION);
    CHECK(strlen(icp_version()) > 0 && icp_build_info()[0] == '{');

    /* Under valgrind, on a machine with much to do, threads take their time to stop. */
    const char *config = "{\"store\":\"memory:\",\"allow_loopback\":true,\"stop_ms\":60000}";
    icp_error *error = NULL;
    CHECK(icp_engine_new(ICP_ABI_VERSION, (const uint8_t *)config, strlen(config), &engine,
                         &error) == ICP_OK);
    CHECK(icp_queue_new(engine, 0, &queue, &error) == ICP_OK);
    mistakes();
    if (strcmp(argv[2], "mistakes") == 0) {
        icp_engine_free(engine);
        icp_queue_free(queue);
        return 0;
    }
    CHECK(ask(ICP_OP_PUBLISH, "{}", answer, sizeof answer) == ICP_E_CLOSED);
    CHECK(ask(ICP_OP_START, "{\"fault\":\"panic\"}", answer, sizeof answer) == ICP_E_PANIC);
    CHECK(icp_log_to_callback(tell, &told, forget, ICP_LOG_INFO, &error) == ICP_OK);
    CHECK(ask(ICP_OP_START, "{}", answer, sizeof answer) == ICP_OK);
    CHECK(told.freed == 0);
    CHECK(icp_log_to_queue(queue, ICP_LOG_INFO, &error) == ICP_OK);
    /* It is not called any more, so this may be read. */
    CHECK(told.freed == 1 && told.runs == 1 && told.lines >= 1);
    CHECK(ask(ICP_OP_PUBLISH, "\xff\xfe", answer, sizeof answer) == ICP_E_INVALID);

    CHECK(ask(ICP_OP_RESOURCE_PUT, "{\"kind\":\"organization\",\"org\":\"acme\",\"document\":{\"spec\":{}}}",
              answer, sizeof answer) == ICP_OK);
    CHECK(ask(ICP_OP_HANDLER_REGISTER, "{\"name\":\"enrich\",\"kind\":\"transformer\"}", answer,
              sizeof answer) == ICP_OK);
    CHECK(ask(ICP_OP_HANDLER_REGISTER, "{\"name\":\"wanted\",\"kind\":\"filter\"}", answer,
              sizeof answer) == ICP_OK);
    snprintf(text, sizeof text,
             "{\"kind\":\"integration\",\"org\":\"acme\",\"id\":\"crm\",\"document\":{\"spec\":{"
             "\"events\":[\"order.*\"],\"transform\":[{\"host_filter\":{\"handler\":\"wanted\"}},"
             "{\"host\":{\"handler\":\"enrich\"}}],"
             "\"target\":{\"kind\":\"http\",\"url\":\"%s\"}}}}",
             url);
    CHECK(ask(ICP_OP_RESOURCE_PUT, text, answer, sizeof answer) == ICP_OK);

    /* One event, whose payload this program makes. */
    CHECK(ask(ICP_OP_PUBLISH, "{\"org\":\"acme\",\"type\":\"order.paid\",\"data\":{\"order\":17}}",
              answer, sizeof answer) == ICP_OK);
    const char *id = strstr(answer, "\"id\":\"");
    CHECK(id != NULL);
    snprintf(text, sizeof text, "{\"org\":\"acme\",\"event\":\"%.*s\"}",
             (int)strcspn(id + 6, "\""), id + 6);
    submit(ICP_OP_DELIVERY_WAIT, 1, text);
    for (int waiting = 1; waiting;) {
        const char *body;
        icp_item item = next(&body);
        if (item.kind == ICP_ITEM_REQUEST) {
            answer_request(item.tag, body, item.len);
        } else if (item.kind == ICP_ITEM_COMPLETION && item.tag == 1) {
            CHECK(item.status == ICP_OK && memchr(body, 'd', item.len) != NULL);
            waiting = 0;
        }
    }

    /* A thread that waits. */
    uint8_t *out = NULL;
    size_t len = 0;
    CHECK(icp_call(engine, ICP_OP_HEALTH, NULL, 0, -1, &out, &len, &error) == ICP_OK);
    CHECK(len > 0 && out[0] == '{');
    icp_buf_free(out, len);

    /* Work in flight: waits for an event that nobody answers for. */
    answering = 0;
    CHECK(ask(ICP_OP_PUBLISH, "{\"org\":\"acme\",\"type\":\"order.paid\",\"data\":1}", answer,
              sizeof answer) == ICP_OK);
    id = strstr(answer, "\"id\":\"");
    CHECK(id != NULL);
    snprintf(text, sizeof text, "{\"org\":\"acme\",\"event\":\"%.*s\"}",
             (int)strcspn(id + 6, "\""), id + 6);
    for (uint64_t tag = 1; tag <= 50; tag++) {
        submit(ICP_OP_DELIVERY_WAIT, tag, text);
    }
    CHECK(icp_cancel(engine, queue, 50) == ICP_OK);
    if (strcmp(argv[2], "shutdown") == 0) {
        submit(ICP_OP_SHUTDOWN, 51, "{\"drain_ms\":100}");
        int ends = 0, stopped = 0;
        while (!stopped || ends < 50) {
            const char *body;
            icp_item item = next(&body);
            if (item.kind == ICP_ITEM_COMPLETION) {
                /* One that was not begun yet finds the engine closed. */
                CHECK(item.tag == 51 ? item.status == ICP_OK
                                     : item.status == ICP_E_CANCELLED || item.status == ICP_E_CLOSED);
                stopped += item.tag == 51;
                ends += item.tag != 51;
            }
        }
    }
    CHECK(icp_log_to_queue(NULL, 0, NULL) == ICP_OK);
    icp_engine_free(engine);
    int left = 0;
    for (;;) {
        size_t needed = 0;
        filled = icp_queue_drain(queue, buffer, sizeof buffer, -1, &needed);
        if (filled < 0) {
            break;
        }
        for (at = 0; at < filled;) {
            const char *body;
            left += next(&body).kind == ICP_ITEM_COMPLETION;
        }
    }
    CHECK(filled == -ICP_E_CLOSED);
    CHECK(left == (strcmp(argv[2], "shutdown") == 0 ? 0 : 50));
    icp_queue_free(queue);
    return 0;
}
