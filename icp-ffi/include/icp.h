/* The C ABI of icp: see docs/guides/embedding-from-c.md.
   Made by `ICP_BLESS=1 cargo test -p icp-ffi --test generated`, not by hand. */

#ifndef ICP_H
#define ICP_H

#include <stddef.h>
#include <stdint.h>

/* The version of the ABI: major << 16 | minor. */
#define ICP_ABI_VERSION ((1u << 16) | 0u)

/* How a call or an operation ended. */
/* It worked. */
#define ICP_OK 0
/* The input is not acceptable as it is, or not allowed. */
#define ICP_E_INVALID 1
/* There is no such thing. */
#define ICP_E_NOT_FOUND 2
/* What is stored differs from what the caller expected. */
#define ICP_E_CONFLICT 3
/* The engine is not started, or is shut down. */
#define ICP_E_CLOSED 4
/* The operation was called off, by its caller or because the engine stops. */
#define ICP_E_CANCELLED 5
/* The time was over; whether the operation takes effect is not known. */
#define ICP_E_TIMEOUT 6
/* Too much is under way; try again. */
#define ICP_E_BUSY 7
/* The store or something else that is needed does not answer. */
#define ICP_E_STORE 8
/* A handler of the host failed. */
#define ICP_E_HANDLER 9
/* This build or this store cannot do it. */
#define ICP_E_UNSUPPORTED 10
/* The caller was compiled for another version of the ABI. */
#define ICP_E_ABI 11
/* The object belongs to the process this one was forked from. */
#define ICP_E_FORKED 12
/* No request of this id waits for an answer. */
#define ICP_E_UNKNOWN_REQUEST 13
/* Nothing under way of this tag can be called off. */
#define ICP_E_NOT_CANCELLABLE 14
/* The call would wait for the thread it is made on. */
#define ICP_E_WRONG_THREAD 15
/* A defect of this library: it panicked. */
#define ICP_E_PANIC 98
/* A defect of this library. */
#define ICP_E_INTERNAL 99

/* What can be asked of an engine. */
/* Opens the store and starts to deliver. Once for each engine. */
#define ICP_OP_START 1
/* Stops: attempts under way have `drain_ms` (default 10,000), the rest is given back. */
#define ICP_OP_SHUTDOWN 2
/* Tells how the engine and its parts are doing. */
#define ICP_OP_HEALTH 3
/* Gives the metrics as OpenMetrics text. */
#define ICP_OP_METRICS 4
/* Publishes one event; once answered, it is stored. */
#define ICP_OP_PUBLISH 10
/* Publishes a list of up to 1,000 events; one that is refused does not keep others out. */
#define ICP_OP_PUBLISH_MANY 11
/* Shows one event with its body. */
#define ICP_OP_EVENT_GET 12
/* Lists events without their bodies, newest first. */
#define ICP_OP_EVENT_LIST 13
/* Says why an event went, or did not go, to each integration. */
#define ICP_OP_EVENT_EXPLAIN 14
/* Gives the statement that publishes an event in the host's own transaction on the same SQL database. */
#define ICP_OP_OUTBOX_INSERT 15
/* Makes a resource, or puts a new version in place of the present one. */
#define ICP_OP_RESOURCE_PUT 20
/* Shows one resource, its secrets masked. */
#define ICP_OP_RESOURCE_GET 21
/* Lists the resources of a kind, ordered by id. */
#define ICP_OP_RESOURCE_LIST 22
/* Deletes a resource. */
#define ICP_OP_RESOURCE_DELETE 23
/* Shows one delivery. */
#define ICP_OP_DELIVERY_GET 30
/* Lists deliveries, newest first. */
#define ICP_OP_DELIVERY_LIST 31
/* Waits until a delivery, or every delivery of an event, has ended. Can be called off. */
#define ICP_OP_DELIVERY_WAIT 32
/* Delivers an ended delivery once more. */
#define ICP_OP_DELIVERY_RETRY 33
/* Lists the attempts of a delivery, oldest first. */
#define ICP_OP_DELIVERY_ATTEMPTS 34
/* Lists deliveries that ended as dead letters, newest first. */
#define ICP_OP_DEAD_LETTER_LIST 40
/* Delivers up to 100 dead letters once more. */
#define ICP_OP_DEAD_LETTER_REPLAY 41
/* Makes the host answer for a handler, by its kind and name. Requests come out of the queue that this was submitted to. */
#define ICP_OP_HANDLER_REGISTER 50
/* Takes a handler away; its requests under way are called off. */
#define ICP_OP_HANDLER_REMOVE 51
/* Follows the attempts or the changes of an organization; EVENT items of the same tag follow. */
#define ICP_OP_SUBSCRIBE 60
/* Ends a subscription of the same queue. */
#define ICP_OP_UNSUBSCRIBE 61
/* Shows what a transformation makes of an event; sends nothing. */
#define ICP_OP_DRY_RUN_TRANSFORM 70
/* Shows what a filter says of an event. */
#define ICP_OP_DRY_RUN_FILTER 71
/* Sends one event that is not stored through a saved integration, and shows what happened. */
#define ICP_OP_INTEGRATION_TEST 72
/* Any route of the HTTP API, asked in this process by the host itself. */
#define ICP_OP_API 80

/* What a record of a queue tells. */
/* An operation ended. */
#define ICP_ITEM_COMPLETION 1
/* A handler of the host is asked; answer with icp_respond. */
#define ICP_ITEM_REQUEST 2
/* A request needs no answer any more. */
#define ICP_ITEM_REQUEST_CANCELLED 3
/* Something happened that a subscription follows. */
#define ICP_ITEM_EVENT 4
/* A line of the log. */
#define ICP_ITEM_LOG 5
/* Items were dropped because too many waited; the tag is that of their subscription, 0 of the log. */
#define ICP_ITEM_LAGGED 6

/* What of the log is told. */
#define ICP_LOG_OFF 0
#define ICP_LOG_ERROR 1
#define ICP_LOG_WARN 2
#define ICP_LOG_INFO 3
#define ICP_LOG_DEBUG 4
#define ICP_LOG_TRACE 5


// An engine, with threads of its own.
typedef struct icp_engine icp_engine;

// Why a call failed. Freed with icp_error_free; its texts live as long.
typedef struct icp_error icp_error;

// A queue that completions, requests, events and log lines come out of.
typedef struct icp_queue icp_queue;

// The header of a record, in the byte order of the machine. Frozen.
typedef struct icp_item {
  // The caller's tag, the id of the request, or the tag of the subscription.
  uint64_t tag;
  // One of `ICP_ITEM_*`.
  uint32_t kind;
  // Of completions: 0, or why it failed; the body is the error document then.
  int32_t status;
  // The length of the body in bytes, without padding.
  uint32_t len;
  // 0; later versions may set bits, which a reader passes over.
  uint32_t flags;
} icp_item;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes an engine from its settings, a JSON document. Opens nothing: that is done by
// ICP_OP_START. `abi` is ICP_ABI_VERSION as the caller was compiled.
int32_t icp_engine_new(uint32_t abi,
                       const uint8_t *config,
                       size_t len,
                       struct icp_engine **out,
                       struct icp_error **err);

// Frees an engine, and stops it where ICP_OP_SHUTDOWN did not: at once, as a crash would, and
// nothing that was answered is lost. Everything pending ends as ICP_E_CANCELLED before it
// returns, which it does within `stop_ms` of the settings, 2 s by default. NULL is fine.
void icp_engine_free(struct icp_engine *engine);

// Starts an operation (ICP_OP_*) with a JSON document. Where it returns 0, one COMPLETION item
// with this tag comes out of the queue, sooner or later, whatever happens; otherwise none. Does
// not block. The body is copied.
int32_t icp_submit(struct icp_engine *engine,
                   struct icp_queue *queue,
                   uint32_t op,
                   uint64_t tag,
                   const uint8_t *body,
                   size_t len,
                   struct icp_error **err);

// Does an operation while the calling thread waits, up to `timeout_ms`; a negative number waits
// for ever. After ICP_E_TIMEOUT it may still take effect. The answer in `out` is freed with
// icp_buf_free.
int32_t icp_call(struct icp_engine *engine,
                 uint32_t op,
                 const uint8_t *body,
                 size_t len,
                 int64_t timeout_ms,
                 uint8_t **out,
                 size_t *out_len,
                 struct icp_error **err);

// Calls off what waits under this tag: ICP_OP_DELIVERY_WAIT. Its completion says
// ICP_E_CANCELLED. ICP_E_NOT_CANCELLABLE where nothing such is under way.
int32_t icp_cancel(struct icp_engine *engine, struct icp_queue *queue, uint64_t tag);

// Answers a REQUEST item: with status 0 and the document of the answer, or with another status
// and `{"message": ..}`. From any thread. ICP_E_UNKNOWN_REQUEST, and no harm, for an answer that
// is late or the second one. The body is copied.
int32_t icp_respond(struct icp_engine *engine,
                    uint64_t request_id,
                    int32_t status,
                    const uint8_t *body,
                    size_t len);

// Frees the answer of icp_call, with the length it came with. NULL is fine.
void icp_buf_free(uint8_t *buf, size_t len);

// The version of the ABI that the library has: major << 16 | minor.
uint32_t icp_abi_version(void);

// The version of the library, as in "0.1.0".
const char *icp_version(void);

// What the library was built with, as JSON.
const char *icp_build_info(void);

// Its status. 0 for NULL.
int32_t icp_error_code(const struct icp_error *error);

// What went wrong and what to do, as UTF-8. NULL for NULL.
const char *icp_error_message(const struct icp_error *error);

// The error as JSON: code, name, message, retryable, and cause, path and violations where there
// are any. NULL for NULL.
const char *icp_error_json(const struct icp_error *error);

// Frees an error. NULL is fine.
void icp_error_free(struct icp_error *error);

// Tells the log of the process to a queue as LOG items, from `level` (ICP_LOG_*) up. There is one
// log in a process: another queue takes its place, NULL ends it.
int32_t icp_log_to_queue(struct icp_queue *queue, int32_t level, struct icp_error **err);

// Tells the log of the process to a function, from `level` (ICP_LOG_*) up, in the place of what it
// was told to. For programs without an interpreter: `cb` is called on threads of the library, one
// line at a time, and returns soon. `json` is good for the call only. Lines that `cb` causes
// itself are not told, and within it the log cannot be changed (ICP_E_WRONG_THREAD). `env_free`
// (or NULL) is called with `env` once: when the log goes elsewhere, before the function that
// says so returns, or where this one fails.
int32_t icp_log_to_callback(void (*cb)(void *env, int32_t level, const uint8_t *json, size_t len),
                            void *env,
                            void (*env_free)(void *env),
                            int32_t level,
                            struct icp_error **err);

// Makes a queue of the engine. `flags` is 0. It outlives its engine and can be drained to its end.
int32_t icp_queue_new(struct icp_engine *engine,
                      uint32_t flags,
                      struct icp_queue **out,
                      struct icp_error **err);

// A descriptor that is readable while there is something to drain, to be waited on and never
// read from; -1 where the system has none.
int64_t icp_queue_fd(const struct icp_queue *queue);

// Copies whole records into `buf`: a header of 24 bytes (icp_item), the body, and padding to 8.
// Waits up to `timeout_ms` for the first one; 0 does not wait, a negative number waits for ever.
// Returns the bytes written; 0 when the time was over, the queue was woken, or not even the
// first record fits, whose size is in `needed` then (0 otherwise). Negative: -ICP_E_CLOSED where
// the queue is empty and its engine is gone, or another status.
int64_t icp_queue_drain(struct icp_queue *queue,
                        uint8_t *buf,
                        size_t cap,
                        int64_t timeout_ms,
                        size_t *needed);

// Makes a drain that waits return 0, or the next one.
void icp_queue_wake(struct icp_queue *queue);

// Frees a queue; what is in it is dropped. NULL is fine.
void icp_queue_free(struct icp_queue *queue);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ICP_H */
