/* Gives the load generator's parser known responses cut at every place, once and around a short piece, and byte by byte.
 *
 * Every piece lies in memory of exactly its size, so that a sanitizer sees whoever reads on. Prints how many cases there
 * were and how many failed; also looks at the histogram. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "sse.h"

enum { WIRE_BYTES = 1 << 14, MOST_EVENTS = 8, MIDDLE_BYTES = 12 };

struct expected {
    const char *name;
    enum sse_state state;
    int events;
    struct sse_event all[MOST_EVENTS];
    const char *id;
};

static struct sse_event seen[MOST_EVENTS];
static int seen_count, cases, failed;

static void note(void *owner, const struct sse_event *event) {
    (void)owner;
    if (seen_count < MOST_EVENTS) seen[seen_count] = *event;
    seen_count++;
}

static enum sse_state give(struct sse_parser *parser, const char *bytes, size_t count) {
    enum sse_state state = parser->state;
    char *exactly = malloc(count ? count : 1);
    memcpy(exactly, bytes, count);
    if (state != SSE_BROKEN && state != SSE_ENDED) state = sse_feed(parser, exactly, count);
    free(exactly);
    return state;
}

static void check(const struct sse_parser *parser, const struct expected *expected) {
    int is_good = parser->state == expected->state && seen_count == expected->events;
    for (int at = 0; is_good && at < seen_count; at++) {
        const struct sse_event *is = &seen[at], *wanted = &expected->all[at];
        is_good = is->epoch == wanted->epoch && is->seq == wanted->seq && is->number == wanted->number;
        is_good = is_good && is->sent_ns == wanted->sent_ns;
    }
    is_good = is_good && !strcmp(parser->id, expected->id);
    cases++;
    if (!is_good && failed++ < 5)
        printf("%s: state %d, %d events, id %s\n", expected->name, parser->state, seen_count, parser->id);
}

static void run(const char *wire, size_t count, const struct expected *expected) {
    struct sse_parser parser;
    for (size_t first = 0; first <= count; first++) {
        for (size_t second = first; second <= count && second <= first + MIDDLE_BYTES; second++) {
            seen_count = 0;
            sse_open(&parser, note, NULL);
            give(&parser, wire, first);
            give(&parser, wire + first, second - first);
            give(&parser, wire + second, count - second);
            check(&parser, expected);
            sse_close(&parser);
        }
    }
    seen_count = 0;
    sse_open(&parser, note, NULL);
    for (size_t at = 0; at < count; at++) give(&parser, wire + at, 1);
    check(&parser, expected);
    sse_close(&parser);
}

/* The body in chunks of `piece` bytes; every second one has an extension. */
static size_t in_chunks(char *wire, const char *body, size_t piece, const char *end) {
    size_t count = strlen(body);
    char *at = wire + sprintf(wire, "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: Chunked\r\n\r\n");
    for (size_t from = 0, nth = 0; from < count; from += piece, nth++) {
        size_t bytes = count - from < piece ? count - from : piece;
        at += sprintf(at, "%zx%s\r\n%.*s\r\n", bytes, nth % 2 ? ";a=b" : "", (int)bytes, body + from);
    }
    return (size_t)(at + sprintf(at, "%s", end) - wire);
}

static void run_bodies(void) {
    static char wire[WIRE_BYTES];
    static const char body[] = ":\n\nevent: hub.hello\nid: 4-4\ndata: {}\n\nid: 7-12\ndata: {\"d\":\"#n=3 #t=99 x\"}\n\n"
                               "event: message\r\ndata: #n=4\r\n\r\nevent: delta\ndata: #n=5\n\nid: 8\n\nretry: 5\ndata: a\ndata: b\n\n";
    struct expected good = {"chunks", SSE_BODY, 4, {{7, 12, 3, 99}, {0, 0, 4, 0}, {0, 0, 5, 0}, {0, 0, 0, 0}}, "8"};
    for (size_t piece = 1; piece <= sizeof body; piece += 40) {
        run(wire, in_chunks(wire, body, piece, ""), &good);
        struct expected ended = good;
        ended.state = SSE_ENDED;
        run(wire, in_chunks(wire, body, piece, "0\r\nTrailer: v\r\n\r\n"), &ended);
    }
    size_t count = (size_t)sprintf(wire, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n%s", body);
    run(wire, count, &good);
}

static void run_faults(void) {
    static char wire[WIRE_BYTES];
    static const struct {
        const char *name, *wire;
    } broken[] = {{"not a size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"},
                  {"too long", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloXX"},
                  {"no size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n"},
                  {"refused", "HTTP/1.1 503 Busy\r\n\r\n"},
                  {"not HTTP", "SSH-2.0-something\r\n"}};
    for (size_t at = 0; at < sizeof broken / sizeof *broken; at++) {
        struct expected expected = {broken[at].name, SSE_BROKEN, 0, {{0}}, ""};
        run(broken[at].wire, strlen(broken[at].wire), &expected);
    }
    struct expected cut = {"cut block", SSE_BODY, 1, {{1, 1, 0, 0}}, "1-1"};
    run(wire, in_chunks(wire, "id: 1-1\ndata: a\n\nid: 1-2\ndata: b\n", 9, ""), &cut);
    char longest[SSE_ID_BYTES];
    memset(longest, 'x', sizeof longest);
    longest[SSE_ID_BYTES - 1] = 0;
    struct expected shortened = {"long id", SSE_BODY, 1, {{0}}, longest};
    char body[256];
    sprintf(body, "id: %sxxxxx\ndata: a\n\n", longest);
    run(wire, in_chunks(wire, body, 100, ""), &shortened);
}

static void look_at_histogram(void) {
    static struct histogram all;
    for (int64_t ns = 1; ns <= 100000; ns++) record_ns(&all, ns);
    double middle = quantile_us(&all, .5), high = quantile_us(&all, .99);
    cases += 2;
    if (middle < 49.2 || middle > 50.8) failed++;
    if (high < 97.4 || high > 100.6) failed++;
    record_ns(&all, INT64_MAX);
    record_ns(&all, -5);
    cases++;
    if (all.count != 100002 || quantile_us(&all, 1) < 9e15) failed++;
}

int main(void) {
    run_bodies();
    run_faults();
    look_at_histogram();
    printf("%d cases, %d failed\n", cases, failed);
    return failed != 0;
}
