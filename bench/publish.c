/* The publisher: numbered, stamped events at a fixed rate over one or many streams, without waiting for answers.
 *
 * Event k of a stream is {"type":"text-delta","id":"0","delta":"#n=<k> #t=<CLOCK_MONOTONIC ns> xxx"}: in the text, number
 * and time survive every dialect. Ways:
 *   redis  commands out of a file: line s holds stream s's command, its words parted by tabs; {seq} and {bytes} become the
 *          number of the first event and the bytes of all before it, the last word {event} becomes --batch events.
 *          With several --port it goes to that of its place in the list which a first word @<place> names.
 *   http   POST of the event to --path, over --links pipelined connections; a stream keeps to one of them
 *   centrifugo  POST of what is due to its /api/batch, over the same links; --centrifugo names the channels
 *   lines  "<stream>\t<event>\n"
 * `late_us` is how long after its due time an event was written down: what the publisher itself was late.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "measure.h"

enum { MOST_LINKS = 64, MOST_EVENT_BYTES = 60000, ANSWER_BYTES = 1 << 16, MOST_AT_ONCE = 256, MOST_COMMANDS = 64 };
enum way { REDIS, HTTP, CENTRIFUGO, LINES };

struct command { /* RESP of the words before {seq}, and of those behind {bytes}; the word count without the events */
    const char *before, *behind;
    int words, link;
    unsigned long event_bytes; /* so far */
};

struct link {
    int fd;
    char *out, answers[ANSWER_BYTES];
    size_t out_bytes, out_room, answer_bytes;
    uint64_t written, answered;
    int array_left; /* RESP: elements of an answer still to come */
    int commands;   /* centrifugo: of the POST that is being written, whose head is at post_at */
    size_t post_at;
};

static struct {
    enum way way;
    const char *socket, *commands, *path;
    int ports[MOST_LINKS], streams, links, size, batch, window, tick_us;
    double rate, seconds;
    uint64_t count;
} asked = {.path = "/pub/{i}", .streams = 1, .links = 1, .size = 120, .batch = 1, .window = 2048, .tick_us = 200,
           .rate = 100};

static struct histogram late;
static struct command *commands;
static struct link links[MOST_LINKS];
static uint64_t *numbers, sent, refused;
static int64_t start_ns;
static volatile sig_atomic_t is_asked_to_end;

static void end_on_signal(int number) {
    (void)number;
    is_asked_to_end = 1;
}

static void fail(const char *what) {
    fprintf(stderr, "publish: %s\n", what);
    exit(1);
}

static int dial(int port) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int one = 1;
    int fd = socket(asked.socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (asked.socket) snprintf(local.sun_path, sizeof local.sun_path, "%s", asked.socket);
    else setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr *address = asked.socket ? (struct sockaddr *)&local : (struct sockaddr *)&tcp;
    if (connect(fd, address, asked.socket ? sizeof local : sizeof tcp)) fail(strerror(errno));
    return fd;
}

/* ---- writing */

static char *room_for(struct link *link, size_t bytes) {
    if (link->out_bytes + bytes > link->out_room) {
        link->out_room = (link->out_bytes + bytes) * 2;
        link->out = realloc(link->out, link->out_room);
        if (!link->out) fail("no memory");
    }
    return link->out + link->out_bytes;
}

static const char post_head[] = "POST /api/batch HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n"
                                "Content-Length: %08d\r\n\r\n";

static int write_event(char *out, int stream) {
    int bytes = sprintf(out, "{\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"#n=%lu #t=%ld ",
                        (unsigned long)++numbers[stream], (long)now_ns());
    while (bytes < asked.size - 2) out[bytes++] = 'x';
    return bytes + sprintf(out + bytes, "\"}");
}

static int digits(unsigned long number) {
    return snprintf(NULL, 0, "%lu", number);
}

static size_t write_command(char *out, int stream) {
    struct command *command = &commands[stream];
    unsigned long first = numbers[stream] + 1, held = command->event_bytes;
    char event[MOST_EVENT_BYTES + 256], *at = out;
    at += sprintf(at, "*%d\r\n%s", command->words + asked.batch, command->before);
    if (command->behind)
        at += sprintf(at, "$%d\r\n%lu\r\n$%d\r\n%lu\r\n%s", digits(first), first, digits(held), held, command->behind);
    for (int nth = 0; nth < asked.batch; nth++) {
        int bytes = write_event(event, stream);
        command->event_bytes += (unsigned long)bytes;
        at += sprintf(at, "$%d\r\n%s\r\n", bytes, event);
    }
    return (size_t)(at - out);
}

static size_t write_post(char *out, int stream) {
    char event[MOST_EVENT_BYTES + 256];
    int bytes = write_event(event, stream);
    const char *mark = strstr(asked.path, "{i}");
    int before = mark ? (int)(mark - asked.path) : (int)strlen(asked.path);
    return (size_t)sprintf(out, "POST %.*s%d%s HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n%s", before, asked.path,
                           stream, mark ? mark + 3 : "", bytes, event);
}

/* Fills in the head of the POST that is being written: how long it is, is known at its end. */
static void end_post(struct link *link) {
    char head[sizeof post_head + 16];
    if (!link->commands) return;
    char *out = room_for(link, 2);
    memcpy(out, "]}", 2);
    link->out_bytes += 2;
    size_t head_bytes = (size_t)sprintf(head, post_head, 0);
    int body_bytes = (int)(link->out_bytes - link->post_at - head_bytes);
    sprintf(head, post_head, body_bytes);
    memcpy(link->out + link->post_at, head, head_bytes);
    link->commands = 0;
    link->written++;
}

static size_t write_publication(struct link *link, char *out, int stream) {
    char *at = out;
    if (!link->commands) {
        link->post_at = link->out_bytes;
        at += sprintf(at, post_head, 0);
        at += sprintf(at, "{\"commands\":[");
    }
    const char *mark = strstr(asked.path, "{i}");
    at += sprintf(at, "%s{\"publish\":{\"channel\":\"%.*s%d\",\"data\":", link->commands++ ? "," : "",
                  (int)(mark ? mark - asked.path : 0), asked.path, stream);
    at += write_event(at, stream);
    return (size_t)(at + sprintf(at, "}}") - out);
}

static void publish(int stream) {
    struct link *link = &links[asked.way == REDIS ? commands[stream].link : stream % asked.links];
    char *out = room_for(link, (size_t)asked.batch * ((size_t)asked.size + 256) + 4096);
    if (asked.way == REDIS) {
        link->out_bytes += write_command(out, stream);
    } else if (asked.way == HTTP) {
        link->out_bytes += write_post(out, stream);
    } else if (asked.way == CENTRIFUGO) {
        link->out_bytes += write_publication(link, out, stream);
        if (link->commands == MOST_COMMANDS) end_post(link);
        sent++;
        return;
    } else {
        int bytes = sprintf(out, "%d\t", stream);
        bytes += write_event(out + bytes, stream);
        out[bytes] = '\n';
        link->out_bytes += (size_t)bytes + 1;
    }
    link->written++;
    sent += (uint64_t)asked.batch;
}

static void flush(struct link *link) {
    for (size_t done = 0; done < link->out_bytes;) {
        ssize_t taken = send(link->fd, link->out + done, link->out_bytes - done, MSG_NOSIGNAL);
        if (taken < 0 && errno != EINTR) fail(strerror(errno));
        if (taken > 0) done += (size_t)taken;
    }
    link->out_bytes = 0;
}

/* ---- answers */

static void refuse(const char *line) {
    if (!refused++) fprintf(stderr, "publish: refused: %.80s\n", line);
}

/* One line of RESP. A script's code is alone or an array's first element: 1 appended, a negative one refused. */
static void take_resp_line(struct link *link, const char *line) {
    bool is_first = false;
    if (*line == '$') return; /* an id's length: the id is the next line */
    if (*line == '*') {
        link->array_left = -atoi(line + 1); /* negative: its first element is next */
        return;
    }
    if (link->array_left < 0) {
        link->array_left = -link->array_left;
        is_first = true;
    }
    if (*line == '-' || (is_first ? strcmp(line, ":1") : !link->array_left && !strncmp(line, ":-", 2))) refuse(line);
    if (link->array_left) link->array_left--;
    if (!link->array_left) link->answered++;
}

static size_t take_resp(struct link *link) {
    char *at = link->answers, *end = link->answers + link->answer_bytes, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        newline[newline > at ? -1 : 0] = 0;
        take_resp_line(link, at);
        at = newline + 1;
    }
    return (size_t)(at - link->answers);
}

static size_t take_http(struct link *link) {
    char *at = link->answers, *head_end;
    link->answers[link->answer_bytes] = 0;
    while ((head_end = strstr(at, "\r\n\r\n"))) {
        char *length = strcasestr(at, "content-length:");
        size_t body = length && length < head_end ? strtoul(length + 15, NULL, 10) : 0;
        if (head_end + 4 + body > link->answers + link->answer_bytes) break;
        bool has_error = asked.way == CENTRIFUGO && memmem(head_end, body + 4, "\"error\"", 7);
        if (strncmp(at, "HTTP/1.1 20", 11) || has_error) refuse(has_error ? head_end + 4 : at);
        link->answered++;
        at = head_end + 4 + body;
    }
    return (size_t)(at - link->answers);
}

static void read_answers(struct link *link, int flags) {
    char *room = link->answers + link->answer_bytes;
    ssize_t count = recv(link->fd, room, sizeof link->answers - link->answer_bytes - 1, flags);
    if (count == 0) fail("the server closed the connection");
    if (count < 0) return;
    link->answer_bytes += (size_t)count;
    size_t used = asked.way == REDIS ? take_resp(link) : take_http(link);
    link->answer_bytes -= used;
    memmove(link->answers, link->answers + used, link->answer_bytes);
}

static void send_all(void) {
    for (int at = 0; at < asked.links; at++) {
        struct link *link = &links[at];
        end_post(link);
        if (link->out_bytes) flush(link);
        if (asked.way == LINES) continue;
        read_answers(link, MSG_DONTWAIT);
        while (!is_asked_to_end && link->written - link->answered > (uint64_t)asked.window) read_answers(link, 0);
    }
}

/* ---- the clock */

static bool is_done(void) {
    if (is_asked_to_end || (asked.count && sent >= asked.count)) return true;
    return asked.seconds > 0 && (double)(now_ns() - start_ns) / 1e9 >= asked.seconds;
}

/* Nanoseconds from the start at which the next append is due. */
static int64_t due_ns(void) {
    return asked.rate > 0 ? (int64_t)((double)sent / asked.rate * 1e9) : 0;
}

static void run(void) {
    start_ns = now_ns();
    while (!is_done()) {
        int64_t ahead = due_ns() - (now_ns() - start_ns);
        if (ahead > 0) {
            int64_t most = 20000000, least = asked.tick_us * 1000ll;
            pause_ns(ahead > most ? most : ahead < least ? least : ahead);
            continue;
        }
        for (int nth = 0; nth < MOST_AT_ONCE && !(asked.count && sent >= asked.count); nth++) {
            int64_t behind = now_ns() - start_ns - due_ns();
            if (behind < 0) break;
            if (asked.rate > 0) record_ns(&late, behind);
            publish((int)(sent / (uint64_t)asked.batch % (uint64_t)asked.streams));
        }
        send_all();
    }
    for (int at = 0; at < asked.links && asked.way != LINES; at++)
        while (!is_asked_to_end && links[at].answered < links[at].written) read_answers(&links[at], 0);
}

/* ---- options */

/* The words up to `end`, as RESP; an empty word counts, no text at all (end before words) is no word. */
static char *encode_words(const char *words, const char *end, int *count) {
    if (end < words) return "";
    char *encoded = calloc(1, (size_t)(end - words) * 8 + 64), *at = encoded;
    if (!encoded) fail("no memory");
    for (const char *tab = words; tab; words = tab + 1) {
        tab = memchr(words, '\t', (size_t)(end - words));
        int bytes = (int)((tab ? tab : end) - words);
        at += sprintf(at, "$%d\r\n%.*s\r\n", bytes, bytes, words);
        ++*count;
        if (!tab) break;
    }
    return encoded;
}

static void read_commands(void) {
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(asked.commands, "r");
    if (!file) fail("no file of commands");
    commands = calloc((size_t)asked.streams, sizeof *commands);
    for (int stream = 0; stream < asked.streams; stream++) {
        if (getline(&line, &room, file) < 0) fail("fewer commands than streams");
        struct command *command = &commands[stream];
        char *seq = strstr(line, "{seq}\t{bytes}\t"), *event = strstr(line, "{event}"), *first = line;
        if (!event) fail("a command without {event}");
        if (*line == '@') command->link = (int)strtol(line + 1, &first, 10), first++;
        if (command->link < 0 || command->link >= asked.links) fail("a command for a port that was not named");
        command->words = seq ? 2 : 0;
        command->before = encode_words(first, (seq ? seq : event) - 1, &command->words);
        if (seq) command->behind = encode_words(seq + 14, event - 1, &command->words);
    }
    free(line);
    fclose(file);
}

static const struct option options[] = {
    {"redis", 1, 0, 'R'},   {"http", 1, 0, 'H'},   {"centrifugo", 1, 0, 'C'}, {"lines", 0, 0, 'L'},  {"socket", 1, 0, 'S'},
    {"streams", 1, 0, 's'}, {"links", 1, 0, 'l'},  {"size", 1, 0, 'z'},   {"batch", 1, 0, 'b'},  {"window", 1, 0, 'w'},
    {"rate", 1, 0, 'r'},    {"seconds", 1, 0, 't'}, {"count", 1, 0, 'c'}, {"tick-us", 1, 0, 'u'}, {"port", 1, 0, 'p'}, {0, 0, 0, 0}};

/* One port for all links, or one for each of Redis's. */
static void read_ports(const char *list) {
    int count = 0;
    for (const char *at = list; at && count < MOST_LINKS; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        asked.ports[count++] = atoi(at);
    asked.links = count;
    for (; count < MOST_LINKS; count++) asked.ports[count] = asked.ports[0];
}

static void read_options(int count, char **words) {
    for (int word; (word = getopt_long(count, words, "", options, NULL)) != -1;) {
        switch (word) {
        case 'R': asked.way = REDIS, asked.commands = optarg; break;
        case 'H': asked.way = HTTP, asked.path = optarg; break;
        case 'C': asked.way = CENTRIFUGO, asked.path = optarg; break;
        case 'L': asked.way = LINES; break;
        case 'S': asked.socket = optarg; break;
        case 'p': read_ports(optarg); break;
        case 's': asked.streams = atoi(optarg); break;
        case 'l': asked.links = atoi(optarg); break;
        case 'z': asked.size = atoi(optarg); break;
        case 'b': asked.batch = atoi(optarg); break;
        case 'w': asked.window = atoi(optarg); break;
        case 'r': asked.rate = atof(optarg); break;
        case 't': asked.seconds = atof(optarg); break;
        case 'c': asked.count = strtoull(optarg, NULL, 10); break;
        case 'u': asked.tick_us = atoi(optarg); break;
        default:
            fprintf(stderr, "publish --redis COMMANDS_FILE | --http PATH | --centrifugo CHANNEL{i} | --lines, --port N | --socket PATH,\n"
                            "        --streams N --rate EVENTS_A_SECOND (0: as fast as taken) --seconds S | --count N\n"
                            "        --size BYTES --batch EVENTS --window APPENDS --links CONNECTIONS\n"
                            "        --tick-us MICROSECONDS (what is due within them shares a write)\n");
            exit(2);
        }
    }
    if (asked.size > MOST_EVENT_BYTES || asked.streams < 1 || asked.batch < 1 || (!asked.count && asked.seconds <= 0))
        fail("it needs --count or --seconds, streams, and events of at most 60000 bytes");
    if (asked.links < 1 || asked.links > MOST_LINKS || (asked.way == REDIS && !asked.commands)) fail("bad options");
}

int main(int count, char **words) {
    read_options(count, words);
    signal(SIGINT, end_on_signal);
    signal(SIGTERM, end_on_signal);
    signal(SIGPIPE, SIG_IGN);
    numbers = calloc((size_t)asked.streams, sizeof *numbers);
    if (!numbers) fail("no memory");
    if (asked.way == LINES) asked.links = 1;
    if (asked.way == REDIS) read_commands();
    for (int at = 0; at < asked.links; at++) links[at].fd = dial(asked.ports[at]);
    run();
    double wall_s = (double)(now_ns() - start_ns) / 1e9;
    printf("{\"sent\":%lu,\"refused\":%lu,\"wall_s\":%.4f,\"rate\":%.1f,\"cpu_s\":%.4f,", (unsigned long)sent,
           (unsigned long)refused, wall_s, (double)sent / wall_s, own_cpu_s());
    print_histogram("late_us", &late);
    printf("\"streams\":%d}\n", asked.streams);
    return refused != 0;
}
