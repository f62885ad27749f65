/* The load generator: many viewers of server-sent events in one thread, with little CPU of its own.
 *
 * Viewer k watches stream k mod --streams. Level-triggered epoll, one recv per wake-up; every connection has a parser,
 * so an event may be cut at any byte. A line {"phase":"connected",...} goes to stdout when every viewer has its 200
 * head, a line {"phase":"done",...} at the end. Durations are microseconds where they say us, else seconds (_s).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"
#include "sse.h"

enum { BATCH = 4096, RECEIVE_BYTES = 1 << 18, REQUEST_BYTES = 12000, NS_PER_MS = 1000000 };
enum step { IDLE, DIALLING, READING_HEAD, READING, OVER };

struct viewer {
    struct sse_parser parser;
    int fd, stream;
    enum step step;
    bool is_stalled, is_complete, was_open;
    uint64_t events, number, epoch, seq;
    int64_t begun_ns; /* when it dialled, or, when it comes back, lost its connection */
};

static struct {
    const char *path;
    char headers[4096];
    int port, return_port, viewers, streams, in_flight, stalled, receive_bytes, nap_us, skip_ms, retry_ms;
    uint64_t deliveries, per_viewer;
    int resumed;
    double seconds, connect_s;
    bool native_ids, numbered, reconnects;
} asked = {.path = "/s/{i}", .viewers = 1, .streams = 1, .in_flight = 128, .connect_s = 30, .retry_ms = 50};

static struct {
    uint64_t events, bytes, reads, gaps, missing, repeated, backward, unnumbered;
    int started, in_flight, open, complete, refused, bad_status, broken, lost, ended, resumed;
    int64_t start_ns, connected_ns, first_ns, last_ns, complete_ns, skip_until_ns;
    double connected_cpu_s;
} seen;

static struct histogram latency, connecting, resuming, completing;
static struct viewer *viewers;
static int poller;
static int64_t read_at_ns;
static volatile sig_atomic_t is_asked_to_end;

static void end_on_signal(int number) {
    (void)number;
    is_asked_to_end = 1;
}

static void check_order(uint64_t *last, uint64_t next) {
    if (*last && next != *last + 1) {
        if (next > *last) {
            seen.gaps++;
            seen.missing += next - *last - 1;
        } else if (next == *last) {
            seen.repeated++;
        } else {
            seen.backward++;
        }
    }
    if (next > *last) *last = next;
}

static void check_native(struct viewer *viewer, const struct sse_event *event) {
    if (!event->seq || !event->epoch) {
        seen.unnumbered++;
        return;
    }
    if (event->epoch < viewer->epoch) seen.backward++;
    viewer->epoch = event->epoch;
    check_order(&viewer->seq, event->seq);
}

static void complete(struct viewer *viewer) {
    viewer->is_complete = true;
    seen.complete++;
    seen.complete_ns = read_at_ns;
    record_ns(&completing, read_at_ns - seen.start_ns);
}

static void take_event(void *owner, const struct sse_event *event) {
    struct viewer *viewer = owner;
    if (asked.numbered && !event->number) return;
    seen.events++;
    viewer->events++;
    if (!seen.first_ns) {
        seen.first_ns = read_at_ns;
        seen.skip_until_ns = read_at_ns + (int64_t)asked.skip_ms * NS_PER_MS;
    }
    seen.last_ns = read_at_ns;
    if (asked.native_ids) check_native(viewer, event);
    else if (event->number) check_order(&viewer->number, event->number);
    else seen.unnumbered++;
    if (event->sent_ns && read_at_ns >= seen.skip_until_ns) record_ns(&latency, read_at_ns - event->sent_ns);
    if (asked.per_viewer && !viewer->is_complete && viewer->events >= asked.per_viewer) complete(viewer);
}

static void watch(struct viewer *viewer, uint32_t events, int operation) {
    struct epoll_event wanted = {.events = events, .data.ptr = viewer};
    epoll_ctl(poller, operation, viewer->fd, &wanted);
}

static int port_of(const struct viewer *viewer) {
    return viewer->was_open && asked.return_port ? asked.return_port : asked.port;
}

static void dial(struct viewer *viewer) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(viewer))};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!viewer->was_open) viewer->begun_ns = now_ns();
    viewer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (viewer->fd < 0) {
        perror("socket");
        exit(2);
    }
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (asked.receive_bytes)
        setsockopt(viewer->fd, SOL_SOCKET, SO_RCVBUF, &asked.receive_bytes, sizeof asked.receive_bytes);
    viewer->step = DIALLING;
    seen.in_flight++;
    int code = connect(viewer->fd, (struct sockaddr *)&address, sizeof address);
    watch(viewer, EPOLLOUT, EPOLL_CTL_ADD);
    (void)code; /* refused at once or later: EPOLLERR or EPOLLHUP says so */
}

/* The connection is gone. Comes back when asked to; the parser keeps the id to come back with. */
static void leave(struct viewer *viewer) {
    if (viewer->step == DIALLING || viewer->step == READING_HEAD) seen.in_flight--;
    if (viewer->step == READING) {
        seen.open--;
        viewer->begun_ns = now_ns();
    }
    close(viewer->fd);
    viewer->fd = -1;
    sse_close(&viewer->parser);
    viewer->step = asked.reconnects && viewer->was_open ? IDLE : OVER;
}

static void lose(struct viewer *viewer) {
    if (viewer->step == READING) seen.lost++;
    else if (!viewer->was_open) seen.refused++;
    leave(viewer);
}

static void send_request(struct viewer *viewer) {
    char request[REQUEST_BYTES], id[SSE_ID_BYTES + 32] = "";
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(viewer->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (viewer->parser.id[0]) snprintf(id, sizeof id, "Last-Event-ID: %s\r\n", viewer->parser.id);
    const char *mark = strstr(asked.path, "{i}");
    int before = mark ? (int)(mark - asked.path) : (int)strlen(asked.path);
    char number[12] = "";
    if (mark) snprintf(number, sizeof number, "%d", viewer->stream);
    int length = snprintf(request, sizeof request,
                          "GET %.*s%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s%s\r\n", before,
                          asked.path, number, mark ? mark + 3 : "", port_of(viewer), asked.headers, id);
    if (error || send(viewer->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        lose(viewer);
        return;
    }
    char last_id[SSE_ID_BYTES];
    memcpy(last_id, viewer->parser.id, sizeof last_id);
    sse_open(&viewer->parser, take_event, viewer);
    memcpy(viewer->parser.id, last_id, sizeof last_id);
    viewer->step = READING_HEAD;
    watch(viewer, EPOLLIN, EPOLL_CTL_MOD);
}

static void head_came(struct viewer *viewer) {
    record_ns(viewer->was_open ? &resuming : &connecting, read_at_ns - viewer->begun_ns);
    seen.resumed += viewer->was_open;
    viewer->was_open = true;
    viewer->step = READING;
    seen.in_flight--;
    seen.open++;
    if (viewer->is_stalled) watch(viewer, 0, EPOLL_CTL_MOD);
}

static void receive(struct viewer *viewer) {
    static char bytes[RECEIVE_BYTES];
    ssize_t count = recv(viewer->fd, bytes, sizeof bytes, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        lose(viewer);
        return;
    }
    read_at_ns = now_ns();
    seen.reads++;
    seen.bytes += (uint64_t)count;
    enum sse_state state = sse_feed(&viewer->parser, bytes, (size_t)count);
    if (viewer->step == READING_HEAD && (state == SSE_BODY || state == SSE_ENDED)) head_came(viewer);
    if (state == SSE_BROKEN) {
        if (viewer->parser.has_status && viewer->parser.status != 200) {
            if (!seen.bad_status++) fprintf(stderr, "load: a viewer was answered %u\n", viewer->parser.status);
        } else {
            seen.broken++;
        }
    }
    if (state == SSE_ENDED) seen.ended++;
    if (state == SSE_BROKEN || state == SSE_ENDED) leave(viewer);
}

static void handle(struct viewer *viewer, uint32_t events) {
    bool is_gone = events & (EPOLLERR | EPOLLHUP);
    if (viewer->step == DIALLING && is_gone) lose(viewer);
    else if (viewer->step == DIALLING) send_request(viewer);
    else if (viewer->step == READING && viewer->is_stalled && is_gone) lose(viewer);
    else if (viewer->step == READING_HEAD || viewer->step == READING) receive(viewer);
}

static void start_some(void) {
    while (seen.started < asked.viewers && seen.in_flight < asked.in_flight) {
        struct viewer *viewer = &viewers[seen.started];
        viewer->stream = seen.started % asked.streams;
        viewer->is_stalled = seen.started < asked.stalled;
        seen.started++;
        dial(viewer);
    }
}

/* A viewer that lost its connection dials again after a pause; a viewer in IDLE that was never open has not been started yet. */
static void bring_back(void) {
    static int64_t next_ns;
    int64_t now = now_ns();
    if (now < next_ns) return;
    next_ns = now + (int64_t)asked.retry_ms * NS_PER_MS;
    for (int at = 0; at < seen.started && seen.in_flight < asked.in_flight; at++)
        if (viewers[at].step == IDLE && viewers[at].was_open) dial(&viewers[at]);
}

static void tell_connected(void) {
    seen.connected_ns = now_ns();
    seen.connected_cpu_s = own_cpu_s();
    printf("{\"phase\":\"connected\",\"open\":%d,\"refused\":%d,\"bad_status\":%d,\"connect_s\":%.4f}\n", seen.open,
           seen.refused, seen.bad_status, (double)(seen.connected_ns - seen.start_ns) / 1e9);
    fflush(stdout);
}

static const char *why_to_end(void) {
    int64_t now = now_ns();
    if (is_asked_to_end) return "asked";
    if (!seen.connected_ns && (double)(now - seen.start_ns) / 1e9 > asked.connect_s) return "connect_timeout";
    if (asked.deliveries && seen.events >= asked.deliveries) return "deliveries";
    if (asked.per_viewer && seen.complete >= asked.viewers - asked.stalled) return "complete";
    if (asked.resumed && seen.resumed >= asked.resumed) return "resumed";
    if (asked.seconds > 0 && (double)(now - seen.start_ns) / 1e9 > asked.seconds) return "time";
    if (seen.connected_ns && !seen.open && !asked.reconnects) return "all_gone";
    return NULL;
}

static void tell_done(const char *why) {
    uint64_t least = UINT64_MAX, most = 0;
    for (int at = asked.stalled; at < asked.viewers; at++) {
        if (viewers[at].events < least) least = viewers[at].events;
        if (viewers[at].events > most) most = viewers[at].events;
    }
    double span_s = (double)(seen.last_ns - seen.first_ns) / 1e9;
    double complete_s = seen.complete_ns ? (double)(seen.complete_ns - seen.start_ns) / 1e9 : 0;
    printf("{\"phase\":\"done\",\"why\":\"%s\",\"open\":%d,\"refused\":%d,\"bad_status\":%d,\"broken\":%d,\"lost\":%d,"
           "\"ended\":%d,\"resumed\":%d,",
           why, seen.open, seen.refused, seen.bad_status, seen.broken, seen.lost, seen.ended, seen.resumed);
    printf("\"events\":%lu,\"bytes\":%lu,\"reads\":%lu,\"span_s\":%.4f,\"complete\":%d,\"complete_s\":%.4f,"
           "\"cpu_s\":%.4f,\"least_per_viewer\":%lu,\"most_per_viewer\":%lu,",
           (unsigned long)seen.events, (unsigned long)seen.bytes, (unsigned long)seen.reads, span_s, seen.complete,
           complete_s, own_cpu_s() - seen.connected_cpu_s, (unsigned long)(least == UINT64_MAX ? 0 : least),
           (unsigned long)most);
    print_histogram("latency_us", &latency);
    print_histogram("connect_us", &connecting);
    print_histogram("resume_us", &resuming);
    print_histogram("complete_us", &completing);
    printf("\"gaps\":%lu,\"missing\":%lu,\"repeated\":%lu,\"backward\":%lu,\"unnumbered\":%lu}\n",
           (unsigned long)seen.gaps, (unsigned long)seen.missing, (unsigned long)seen.repeated,
           (unsigned long)seen.backward, (unsigned long)seen.unnumbered);
}

static const struct option options[] = {
    {"port", 1, 0, 'p'},        {"path", 1, 0, 'u'},       {"viewers", 1, 0, 'v'},     {"streams", 1, 0, 's'},
    {"header", 1, 0, 'H'},      {"in-flight", 1, 0, 'i'},  {"stalled", 1, 0, 'S'},     {"receive-bytes", 1, 0, 'B'},
    {"nap-us", 1, 0, 'N'},      {"skip-ms", 1, 0, 'k'},    {"deliveries", 1, 0, 'd'},  {"per-viewer", 1, 0, 'n'},
    {"seconds", 1, 0, 't'},     {"connect-s", 1, 0, 'c'},  {"native-ids", 0, 0, 'I'},  {"numbered", 0, 0, 'M'},
    {"reconnect", 0, 0, 'R'},   {"return-port", 1, 0, 'P'},
    {"retry-ms", 1, 0, 'r'},    {"resumed", 1, 0, 'C'},    {"help", 0, 0, 'h'},       {0, 0, 0, 0}};

static void add_header(const char *line) {
    if (strlen(asked.headers) + strlen(line) + 3 > sizeof asked.headers) {
        fprintf(stderr, "load: the headers are too long\n");
        exit(2);
    }
    strcat(strcat(asked.headers, line), "\r\n");
}

static void usage(int code) {
    puts("load --port N --path /s/{i} --viewers N --streams N  [--header 'Name: value' ...]\n"
         "     --deliveries N | --per-viewer N (replay) | --seconds S: when to end; SIGTERM ends it too\n"
         "     --native-ids        check <epoch>-<seq> of the ids; else #n= of the text\n"
         "     --numbered          an event without #n= is the server's own: it does not count\n"
         "     --stalled K         the first K viewers read nothing after the head\n"
         "     --reconnect         a viewer that is cut comes back after --retry-ms, with Last-Event-ID; --resumed N: end when N have come back\n"
         "     --return-port N     where it comes back to; else where it was\n"
         "     --in-flight N       most connections being made at once; --connect-s S: longest for all\n"
         "     --receive-bytes B   SO_RCVBUF; --skip-ms M: no latency is taken so long after the first event\n"
         "     --nap-us U          look at the sockets once in U us: less CPU here, U us more latency at most");
    exit(code);
}

static void read_options(int count, char **words) {
    for (int word; (word = getopt_long(count, words, "", options, NULL)) != -1;) {
        switch (word) {
        case 'p': asked.port = atoi(optarg); break;
        case 'u': asked.path = optarg; break;
        case 'v': asked.viewers = atoi(optarg); break;
        case 's': asked.streams = atoi(optarg); break;
        case 'H': add_header(optarg); break;
        case 'i': asked.in_flight = atoi(optarg); break;
        case 'S': asked.stalled = atoi(optarg); break;
        case 'B': asked.receive_bytes = atoi(optarg); break;
        case 'N': asked.nap_us = atoi(optarg); break;
        case 'k': asked.skip_ms = atoi(optarg); break;
        case 'd': asked.deliveries = strtoull(optarg, NULL, 10); break;
        case 'n': asked.per_viewer = strtoull(optarg, NULL, 10); break;
        case 't': asked.seconds = atof(optarg); break;
        case 'c': asked.connect_s = atof(optarg); break;
        case 'I': asked.native_ids = true; break;
        case 'M': asked.numbered = true; break;
        case 'R': asked.reconnects = true; break;
        case 'P': asked.return_port = atoi(optarg); break;
        case 'r': asked.retry_ms = atoi(optarg); break;
        case 'C': asked.resumed = atoi(optarg); break;
        case 'h': usage(0); break;
        default: exit(2);
        }
    }
    if (asked.port < 1 || asked.viewers < 1 || asked.streams < 1) usage(2);
}

int main(int count, char **words) {
    static struct epoll_event ready[BATCH];
    const char *why;
    read_options(count, words);
    raise_file_limit();
    signal(SIGINT, end_on_signal);
    signal(SIGTERM, end_on_signal);
    viewers = calloc((size_t)asked.viewers, sizeof *viewers);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!viewers || poller < 0) return 2;
    seen.start_ns = now_ns();
    while (!(why = why_to_end())) {
        start_some();
        if (asked.reconnects) bring_back();
        if (asked.nap_us && seen.connected_ns) pause_ns(asked.nap_us * 1000ll);
        int events = epoll_wait(poller, ready, BATCH, 20);
        for (int at = 0; at < events; at++) handle(ready[at].data.ptr, ready[at].events);
        if (!seen.connected_ns && seen.started == asked.viewers && !seen.in_flight) tell_connected();
    }
    tell_done(why);
    return seen.refused || seen.bad_status || seen.broken;
}
