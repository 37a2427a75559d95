/* Open-loop HTTP/1.1 load: sends each request at its planned time, whatever the server does.

   openload HOST PORT REQUEST_FILE PLAN_FILE RESULT_FILE WARM MAX DRAIN_S

   PLAN_FILE    int64 nanoseconds from the start, ascending: when each request is due
   RESULT_FILE  4 x int64 per request: due ns, sent ns, done ns, status
                status: HTTP's; 0 = connection failed; -1 = not done when the run ended
   WARM, MAX    connections opened before the start; at most open at once

   A request that is due takes an idle connection, else a new one; at MAX it waits here, and its
   latency goes on counting from its planned time: nothing is left out because the server is slow.
   One thread, epoll; most of the CPU it takes is the kernel's. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 8192, EVENTS = 512 };
typedef struct { int64_t due, sent, done, status; } Result;
typedef struct {
    int fd, closing, status;
    long job;              /* index of the request in flight, -1 = idle */
    size_t out;            /* bytes of the request written */
    size_t head_len;       /* bytes of the answer's head collected */
    int64_t body_left;     /* bytes of the body to come, -1 = head not complete */
    char head[HEAD_MAX + 1];
} Conn;

static int ep, live, max_conns;
static Conn **idle_stack;
static long idle_count;
static char *request; static size_t request_len;
static Result *results;
static int64_t start_ns;
static long finished;
static struct sockaddr_in address;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec - start_ns;
}
static void die(const char *what) { perror(what); exit(2); }

static void *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    struct stat s;
    if (!f || fstat(fileno(f), &s)) die(path);
    void *data = malloc(s.st_size + 1);
    if (!data || fread(data, 1, s.st_size, f) != (size_t)s.st_size) die(path);
    fclose(f);
    *size = s.st_size;
    return data;
}

static void finish(Conn *c, int status) {
    Result *r = &results[c->job];
    r->done = now_ns();
    r->status = status;
    c->job = -1;
    finished++;
}

static void drop(Conn *c) {
    if (c->job >= 0) finish(c, 0);
    else for (long i = 0; i < idle_count; i++)
        if (idle_stack[i] == c) { idle_stack[i] = idle_stack[--idle_count]; break; }
    close(c->fd);           /* the struct stays: an event of this turn may still name it */
    c->fd = -1;
    live--;
}

static Conn *open_conn(void) {
    Conn *c = calloc(1, sizeof *c);
    if (!c) die("calloc");
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    c->job = -1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
    live++;
    return c;
}

static void push_out(Conn *c) {
    while (c->job >= 0 && c->out < request_len) {
        ssize_t n = send(c->fd, request + c->out, request_len - c->out, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != ENOTCONN && errno != EINTR) drop(c);
            return;
        }
        c->out += n;
    }
}

static void give(Conn *c, long job) {
    c->job = job;
    c->out = c->head_len = 0;
    c->body_left = -1;
    results[job].sent = now_ns();
    push_out(c);
}

/* Read status, length and whether the server closes out of a complete head. */
static int read_head(Conn *c, size_t head_end) {
    char kept = c->head[head_end];
    c->head[head_end] = 0;
    c->status = atoi(c->head + 9);
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->closing = strcasestr(c->head, "\r\nconnection: close") != NULL;
    int64_t body = length ? atoll(length + 17) : -1;
    c->head[head_end] = kept;
    if (body < 0) return 0;
    c->body_left = body - (int64_t)(c->head_len - head_end - 4);
    return 1;
}

static void take_in(Conn *c, char *scratch, size_t room) {
    while (c->fd >= 0) {
        int in_head = c->job >= 0 && c->body_left < 0;
        ssize_t n = in_head ? recv(c->fd, c->head + c->head_len, HEAD_MAX - c->head_len, 0)
                            : recv(c->fd, scratch, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) return;
        if (n <= 0 || c->job < 0) { drop(c); return; }   /* closed, or bytes nobody asked for */
        if (in_head) {
            c->head_len += n;
            c->head[c->head_len] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) { if (c->head_len == HEAD_MAX) drop(c); continue; }
            if (!read_head(c, end - c->head)) { drop(c); return; }
        } else c->body_left -= n;
        if (c->body_left > 0) continue;
        int whole = c->out == request_len;   /* answered before all was sent: cannot go on */
        finish(c, c->status);
        if (c->closing || !whole || c->body_left < 0) { drop(c); return; }
        idle_stack[idle_count++] = c;
        return;                  /* a close comes as an edge of its own */
    }
}

int main(int argc, char **argv) {
    if (argc != 9) { fprintf(stderr, "usage: see the top of openload.c\n"); return 2; }
    size_t plan_bytes;
    request = read_file(argv[3], &request_len);
    int64_t *plan = read_file(argv[4], &plan_bytes);
    long count = plan_bytes / sizeof *plan, due = 0, next = 0;
    int warm = atoi(argv[6]);
    max_conns = atoi(argv[7]);
    int64_t drain_ns = (int64_t)(atof(argv[8]) * 1e9);
    results = calloc(count, sizeof *results);
    idle_stack = calloc(max_conns + 1, sizeof *idle_stack);
    char *scratch = malloc(1 << 16);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    prctl(PR_SET_TIMERSLACK, 1);             /* 50 us by default: longer than an answer takes */
    setpriority(PRIO_PROCESS, 0, -10);       /* where allowed: clients elsewhere would not wait for
                                                the server's cores */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    ep = epoll_create1(0);
    for (int i = 0; i < warm; i++) idle_stack[idle_count++] = open_conn();
    for (long i = 0; i < count; i++) { results[i].due = plan[i]; results[i].status = -1; }
    usleep(100000);                          /* connections are made before the clock starts */
    start_ns = now_ns();

    struct epoll_event events[EVENTS];
    while (finished < count) {
        int64_t now = now_ns();
        while (due < count && plan[due] <= now) due++;
        while (next < due && (idle_count || live < max_conns))
            give(idle_count ? idle_stack[--idle_count] : open_conn(), next++);
        if (now > plan[count - 1] + drain_ns) break;
        int64_t wait = due < count ? plan[due] - now_ns() : 100000000;
        if (wait < 0) wait = 0;
        struct timespec t = {wait / 1000000000, wait % 1000000000};
        int n = epoll_pwait2(ep, events, EVENTS, &t, NULL);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c->fd >= 0 && (events[i].events & (EPOLLERR | EPOLLHUP))) { drop(c); continue; }
            if (c->fd >= 0 && (events[i].events & EPOLLOUT)) push_out(c);
            if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLRDHUP)))
                take_in(c, scratch, 1 << 16);
        }
    }
    FILE *f = fopen(argv[5], "wb");
    if (!f || fwrite(results, sizeof *results, count, f) != (size_t)count || fclose(f)) die(argv[5]);
    return 0;
}
