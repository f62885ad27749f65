/* Takes an HTTP/1.1 response with a body of server-sent events apart, in whatever pieces it arrives.
 *
 * Rules
 * 1. The body may be chunked (extensions and trailers are skipped) or last until the connection's end.
 * 2. A block with data is an event when it has no name, is named message, or holds the publisher's number; others
 *    (hub.hello, comments) do not count.
 * 3. Lines end with LF or CRLF: every server measured here writes nothing else. A lone CR is text.
 * 4. An id counts when its block is whole: a client that returns with Last-Event-ID receives a cut block in full.
 */
#ifndef BENCH_SSE_H
#define BENCH_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SSE_ID_BYTES = 64 };

enum sse_state { SSE_HEAD, SSE_BODY, SSE_ENDED, SSE_BROKEN };

struct sse_event {
    uint64_t epoch;  /* left half of the id "<epoch>-<seq>"; 0: it has none */
    uint64_t seq;    /* right half; a plain number counts as one; 0: no id in this block */
    uint64_t number; /* #n= of the text, counted by the publisher from 1; 0: it tells none */
    int64_t sent_ns; /* #t= of the text, CLOCK_MONOTONIC of the publisher; 0: it tells none */
};

typedef void (*sse_on_event)(void *owner, const struct sse_event *event);

struct sse_parser {
    sse_on_event on_event;
    void *owner;
    char *carry; /* the beginning of a line whose end has not come yet */
    uint32_t carry_bytes, carry_room;
    uint64_t chunk_left;
    uint64_t body_bytes;
    uint8_t state, chunk_step, size_digits;
    bool is_chunked, has_status, has_data, is_named, line_has_text;
    uint16_t status;
    char id[SSE_ID_BYTES], next_id[SSE_ID_BYTES];
    struct sse_event event;
};

void sse_open(struct sse_parser *parser, sse_on_event on_event, void *owner);
/* What the parser is in after these bytes; BROKEN: no HTTP, not a 200 (see status), or bad chunks. */
enum sse_state sse_feed(struct sse_parser *parser, const char *bytes, size_t count);
/* Forgets what was held; the last whole id stays readable. */
void sse_close(struct sse_parser *parser);

#endif
