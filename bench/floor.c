/* The C floor: what the kernel's TCP path costs when each event is one send() of one shared chunk to each viewer.
 *
 * It does nothing else that a product must do: no rights, no resuming, no heartbeats, no log. Viewers: GET /.../<stream>
 * on PORT, the stream a number; events: lines "<stream>\t<json>\n" on EVENTS_PORT.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum { STREAMS = 20000, BATCH = 512, BACKLOG = 4096, REQUEST_BYTES = 4096, EVENTS_BYTES = 1 << 20, CHUNK_BYTES = 70000 };
enum kind { VIEWER, EVENTS, VIEWER_LISTENER, EVENTS_LISTENER };

struct connection {
    int fd, stream, place;      /* a viewer's stream, -1 before its request, and its place in it */
    enum kind kind;
    char *unsent;               /* what the kernel did not take yet */
    uint32_t unsent_bytes, unsent_room;
};

struct stream {
    struct connection **viewers;
    int count, room;
    uint64_t seq;
};

static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
                           "transfer-encoding: chunked\r\n\r\n";
static struct stream streams[STREAMS];
static char lines[EVENTS_BYTES];
static size_t line_bytes;
static int poller;

static void *checked(void *memory) {
    if (!memory) {
        perror("floor");
        exit(1);
    }
    return memory;
}

static void open_connection(int fd, enum kind kind) {
    struct connection *connection = checked(calloc(1, sizeof *connection));
    connection->fd = fd;
    connection->kind = kind;
    connection->stream = -1;
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted);
}

static void listen_on(int port, enum kind kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG)) {
        perror("floor: listen");
        exit(1);
    }
    open_connection(fd, kind);
}

static void accept_all(const struct connection *listener) {
    int one = 1;
    for (int fd; (fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        open_connection(fd, listener->kind == VIEWER_LISTENER ? VIEWER : EVENTS);
    }
}

static void drop(struct connection *connection) {
    if (connection->stream >= 0) {
        struct stream *stream = &streams[connection->stream];
        struct connection *last = stream->viewers[--stream->count];
        stream->viewers[connection->place] = last;
        last->place = connection->place;
    }
    close(connection->fd);
    free(connection->unsent);
    free(connection);
}

static void wait_for(struct connection *connection, uint32_t events) {
    struct epoll_event wanted = {.events = events, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &wanted);
}

static void keep(struct connection *connection, const char *bytes, size_t count) {
    size_t wanted = connection->unsent_bytes + count;
    if (wanted > connection->unsent_room) {
        connection->unsent = checked(realloc(connection->unsent, wanted * 2));
        connection->unsent_room = (uint32_t)(wanted * 2);
    }
    if (!connection->unsent_bytes) wait_for(connection, EPOLLIN | EPOLLOUT);
    memcpy(connection->unsent + connection->unsent_bytes, bytes, count);
    connection->unsent_bytes = (uint32_t)wanted;
}

static void give(struct connection *connection, const char *bytes, size_t count) {
    ssize_t taken = 0;
    if (!connection->unsent_bytes) {
        taken = send(connection->fd, bytes, count, MSG_NOSIGNAL);
        if (taken == (ssize_t)count) return;
        if (taken < 0 && errno != EAGAIN) return; /* gone: epoll tells */
        if (taken < 0) taken = 0;
    }
    keep(connection, bytes + taken, count - (size_t)taken);
}

static void give_unsent(struct connection *connection) {
    ssize_t taken = send(connection->fd, connection->unsent, connection->unsent_bytes, MSG_NOSIGNAL);
    if (taken <= 0) return;
    connection->unsent_bytes -= (uint32_t)taken;
    memmove(connection->unsent, connection->unsent + taken, connection->unsent_bytes);
    if (!connection->unsent_bytes) wait_for(connection, EPOLLIN);
}

static void fan_out(const char *line, size_t count) {
    static char frame[CHUNK_BYTES], chunk[CHUNK_BYTES + 32];
    const char *tab = memchr(line, '\t', count);
    int at = atoi(line);
    if (!tab || at < 0 || at >= STREAMS || count > CHUNK_BYTES - 64) return;
    struct stream *stream = &streams[at];
    int json_bytes = (int)(count - (size_t)(tab + 1 - line));
    int frame_bytes = sprintf(frame, "id: 1-%lu\ndata: %.*s\n\n", (unsigned long)++stream->seq, json_bytes, tab + 1);
    int chunk_bytes = sprintf(chunk, "%x\r\n%s\r\n", frame_bytes, frame);
    for (int place = 0; place < stream->count; place++) give(stream->viewers[place], chunk, (size_t)chunk_bytes);
}

static void take_events(struct connection *connection) {
    ssize_t count = recv(connection->fd, lines + line_bytes, 65536, 0);
    if (count <= 0) {
        line_bytes = 0;
        drop(connection);
        return;
    }
    char *at = lines, *end = lines + line_bytes + count, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        fan_out(at, (size_t)(newline - at));
        at = newline + 1;
    }
    line_bytes = (size_t)(end - at);
    memmove(lines, at, line_bytes);
    if (line_bytes > EVENTS_BYTES - 65536) line_bytes = 0;
}

static void join(struct connection *connection, int at) {
    struct stream *stream = &streams[at];
    if (stream->count == stream->room) {
        stream->room = stream->room ? stream->room * 2 : 4;
        stream->viewers = checked(realloc(stream->viewers, sizeof *stream->viewers * (size_t)stream->room));
    }
    connection->stream = at;
    connection->place = stream->count;
    stream->viewers[stream->count++] = connection;
    give(connection, head, sizeof head - 1);
}

static void take_request(struct connection *connection) {
    char request[REQUEST_BYTES];
    ssize_t count = recv(connection->fd, request, sizeof request - 1, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN) drop(connection);
        return;
    }
    request[count] = 0;
    char *end = strstr(request, " HTTP/"), *at = end;
    while (at && at > request && at[-1] != '/') at--;
    if (at && connection->stream < 0) join(connection, abs(atoi(at)) % STREAMS);
}

int main(int count, char **words) {
    struct epoll_event ready[BATCH];
    if (count != 3) {
        fprintf(stderr, "floor PORT EVENTS_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    poller = epoll_create1(EPOLL_CLOEXEC);
    listen_on(atoi(words[1]), VIEWER_LISTENER);
    listen_on(atoi(words[2]), EVENTS_LISTENER);
    for (;;) {
        int events = epoll_wait(poller, ready, BATCH, -1);
        for (int at = 0; at < events; at++) {
            struct connection *connection = ready[at].data.ptr;
            if (connection->kind >= VIEWER_LISTENER) {
                accept_all(connection);
            } else if (connection->kind == EVENTS) {
                take_events(connection);
            } else {
                if (ready[at].events & EPOLLOUT) give_unsent(connection);
                if (ready[at].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_request(connection);
            }
        }
    }
}
