#define _GNU_SOURCE
#include "sse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_CR, CHUNK_LF, CHUNK_TRAILER };
enum { LONGEST_LINE_BYTES = 1 << 24, MOST_SIZE_DIGITS = 15, KEPT_CARRY_BYTES = 1024 };

void sse_open(struct sse_parser *parser, sse_on_event on_event, void *owner) {
    memset(parser, 0, sizeof *parser);
    parser->on_event = on_event;
    parser->owner = owner;
}

void sse_close(struct sse_parser *parser) {
    free(parser->carry);
    parser->carry = NULL;
    parser->carry_bytes = parser->carry_room = 0;
}

static bool carry(struct sse_parser *parser, const char *bytes, size_t count) {
    size_t wanted = parser->carry_bytes + count;
    if (wanted > LONGEST_LINE_BYTES) return false;
    if (wanted > parser->carry_room) {
        size_t room = parser->carry_room ? parser->carry_room : 256;
        while (room < wanted) room *= 2;
        char *larger = realloc(parser->carry, room);
        if (!larger) return false;
        parser->carry = larger;
        parser->carry_room = (uint32_t)room;
    }
    if (count) memcpy(parser->carry + parser->carry_bytes, bytes, count);
    parser->carry_bytes = (uint32_t)wanted;
    return true;
}

/* The digits that begin at `at`, and where they end. */
static const char *read_number(const char *at, const char *end, uint64_t *number) {
    uint64_t value = 0;
    while (at < end && *at >= '0' && *at <= '9') value = value * 10 + (uint64_t)(*at++ - '0');
    *number = value;
    return at;
}

static uint64_t number_after(const char *line, const char *end, const char *key) {
    size_t length = strlen(key);
    const char *at = memmem(line, (size_t)(end - line), key, length);
    uint64_t number = 0;
    if (at) read_number(at + length, end, &number);
    return number;
}

static void take_id(struct sse_parser *parser, const char *at, const char *end) {
    uint64_t first = 0, second = 0;
    size_t length = (size_t)(end - at);
    if (length >= SSE_ID_BYTES) length = SSE_ID_BYTES - 1;
    memcpy(parser->next_id, at, length);
    parser->next_id[length] = 0;
    const char *after = read_number(at, end, &first);
    if (after < end && *after == '-') {
        read_number(after + 1, end, &second);
        parser->event.epoch = first;
        parser->event.seq = second;
    } else {
        parser->event.seq = first;
    }
}

static void dispatch(struct sse_parser *parser) {
    if (parser->next_id[0]) {
        memcpy(parser->id, parser->next_id, SSE_ID_BYTES);
        parser->next_id[0] = 0;
    }
    if (parser->has_data && (!parser->is_named || parser->event.number)) parser->on_event(parser->owner, &parser->event);
    parser->has_data = parser->is_named = false;
    memset(&parser->event, 0, sizeof parser->event);
}

static void take_body_line(struct sse_parser *parser, const char *line, const char *end) {
    size_t length = (size_t)(end - line);
    if (!length) {
        dispatch(parser);
    } else if (length >= 5 && !memcmp(line, "data:", 5)) {
        parser->has_data = true;
        if (!parser->event.number) parser->event.number = number_after(line, end, "#n=");
        if (!parser->event.sent_ns) parser->event.sent_ns = (int64_t)number_after(line, end, "#t=");
    } else if (length >= 3 && !memcmp(line, "id:", 3)) {
        line += 3;
        take_id(parser, line < end && *line == ' ' ? line + 1 : line, end);
    } else if (length >= 6 && !memcmp(line, "event:", 6)) {
        line += line + 6 < end && line[6] == ' ' ? 7 : 6;
        parser->is_named = end - line != 7 || memcmp(line, "message", 7) != 0;
    }
}

static bool take_head_line(struct sse_parser *parser, const char *line, const char *end) {
    static const char coding[] = "transfer-encoding:";
    size_t length = (size_t)(end - line);
    if (!parser->has_status) {
        uint64_t status = 0;
        if (length < 12 || memcmp(line, "HTTP/1.", 7)) return false;
        read_number(line + 9, end, &status);
        parser->status = (uint16_t)status;
        parser->has_status = true;
        return status == 200;
    }
    if (!length) {
        parser->state = SSE_BODY;
    } else if (length > sizeof coding - 1 && !strncasecmp(line, coding, sizeof coding - 1)) {
        for (const char *at = line + sizeof coding - 1; at + 7 <= end; at++)
            if (!strncasecmp(at, "chunked", 7)) parser->is_chunked = true;
    }
    return true;
}

/* Lines out of bytes, for as long as the state stays what it is. Returns how many bytes were used; -1: broken. */
static long take_lines(struct sse_parser *parser, const char *bytes, size_t count) {
    const char *at = bytes, *end = bytes + count;
    uint8_t state = parser->state;
    while (at < end && parser->state == state) {
        const char *line = at, *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline) return carry(parser, at, (size_t)(end - at)) ? (long)count : -1;
        const char *line_end = newline;
        if (parser->carry_bytes) {
            if (!carry(parser, at, (size_t)(newline - at))) return -1;
            line = parser->carry;
            line_end = line + parser->carry_bytes;
            parser->carry_bytes = 0;
        }
        at = newline + 1;
        if (line_end > line && line_end[-1] == '\r') line_end--;
        if (state == SSE_BODY) take_body_line(parser, line, line_end);
        else if (!take_head_line(parser, line, line_end)) return -1;
    }
    if (parser->carry_room > KEPT_CARRY_BYTES && !parser->carry_bytes) sse_close(parser);
    return at - bytes;
}

static bool take_size_digit(struct sse_parser *parser, char byte) {
    char low = (char)(byte | 32);
    int digit = byte >= '0' && byte <= '9' ? byte - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
    if (digit >= 0) {
        parser->chunk_left = parser->chunk_left * 16 + (unsigned)digit;
        return ++parser->size_digits <= MOST_SIZE_DIGITS;
    }
    parser->chunk_step = CHUNK_EXTENSION;
    return parser->size_digits && (byte == '\r' || byte == ';' || byte == ' ');
}

static bool take_trailer_byte(struct sse_parser *parser, char byte) {
    if (byte == '\n' && !parser->line_has_text) parser->state = SSE_ENDED;
    else if (byte != '\r') parser->line_has_text = byte != '\n';
    return true;
}

/* One byte between the data of two chunks. */
static bool take_framing(struct sse_parser *parser, char byte) {
    switch (parser->chunk_step) {
    case CHUNK_SIZE:
        return take_size_digit(parser, byte);
    case CHUNK_EXTENSION:
        if (byte != '\n') return true;
        parser->size_digits = 0;
        parser->line_has_text = false;
        parser->chunk_step = parser->chunk_left ? CHUNK_DATA : CHUNK_TRAILER;
        return true;
    case CHUNK_CR:
        parser->chunk_step = CHUNK_LF;
        return byte == '\r';
    case CHUNK_LF:
        parser->chunk_step = CHUNK_SIZE;
        return byte == '\n';
    default:
        return take_trailer_byte(parser, byte);
    }
}

static bool take_body(struct sse_parser *parser, const char *at, const char *end) {
    while (at < end && parser->state == SSE_BODY) {
        size_t count = (size_t)(end - at);
        if (parser->is_chunked && parser->chunk_step != CHUNK_DATA) {
            if (!take_framing(parser, *at++)) return false;
            continue;
        }
        if (parser->is_chunked && count > parser->chunk_left) count = parser->chunk_left;
        if (take_lines(parser, at, count) < 0) return false;
        at += count;
        parser->body_bytes += count;
        parser->chunk_left -= parser->is_chunked ? count : 0;
        if (parser->is_chunked && !parser->chunk_left) parser->chunk_step = CHUNK_CR;
    }
    return true;
}

enum sse_state sse_feed(struct sse_parser *parser, const char *bytes, size_t count) {
    const char *at = bytes, *end = bytes + count;
    if (parser->state == SSE_HEAD) {
        long used = take_lines(parser, at, count);
        if (used < 0) return parser->state = SSE_BROKEN;
        at += used;
    }
    if (!take_body(parser, at, end)) parser->state = SSE_BROKEN;
    return parser->state;
}
