/* The loop of writes.py in C: chunks to many sockets. Built where a compiler is found (hatch_build.py); writes.py does
 * the same without it. Stable ABI of CPython 3.11.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef MSG_NOSIGNAL
enum { FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };
#else
enum { FLAGS = MSG_DONTWAIT }; /* the interpreter ignores SIGPIPE */
#endif

enum { REFUSED = -1 };

struct shortfall {
    Py_ssize_t place;
    int fd;
    Py_ssize_t taken;
};

struct write {
    Py_buffer fds, chunk;
};

struct shortfalls {
    struct shortfall *all;
    Py_ssize_t count, room;
};

static Py_ssize_t write_to(int fd, const char *chunk, Py_ssize_t size) {
    ssize_t taken;
    do {
        taken = send(fd, chunk, (size_t)size, FLAGS);
        if (taken < 0 && errno == ENOTSOCK) taken = write(fd, chunk, (size_t)size); /* a pipe is not waited for either */
    } while (taken < 0 && errno == EINTR);
    if (taken >= 0) return taken;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : REFUSED;
}

/* Whether there was memory to note it. */
static int note(struct shortfalls *shortfalls, struct shortfall one) {
    if (shortfalls->count == shortfalls->room) {
        Py_ssize_t room = shortfalls->room ? shortfalls->room * 2 : 16;
        struct shortfall *more = realloc(shortfalls->all, (size_t)room * sizeof *more);
        if (!more) return 0;
        shortfalls->all = more;
        shortfalls->room = room;
    }
    shortfalls->all[shortfalls->count++] = one;
    return 1;
}

/* No object is touched and nothing else written to between two writes: the interpreter runs other threads meanwhile. */
static int write_all_of(const struct write *writes, Py_ssize_t count, struct shortfalls *shortfalls) {
    for (Py_ssize_t place = 0; place < count; place++) {
        const int *fds = writes[place].fds.buf;
        Py_ssize_t sockets = writes[place].fds.len / (Py_ssize_t)sizeof(int), size = writes[place].chunk.len;
        for (Py_ssize_t at = 0; at < sockets; at++) {
            Py_ssize_t taken = write_to(fds[at], writes[place].chunk.buf, size);
            if (taken != size && !note(shortfalls, (struct shortfall){place, fds[at], taken})) return 0;
        }
    }
    return 1;
}

static PyObject *as_list(const struct shortfalls *shortfalls) {
    PyObject *list = PyList_New(shortfalls->count);
    for (Py_ssize_t at = 0; list && at < shortfalls->count; at++) {
        const struct shortfall *one = &shortfalls->all[at];
        PyObject *row = Py_BuildValue("(nin)", one->place, one->fd, one->taken);
        if (!row || PyList_SetItem(list, at, row)) Py_CLEAR(list);
    }
    return list;
}

static void release(struct write *writes, Py_ssize_t count) {
    while (count-- > 0) {
        PyBuffer_Release(&writes[count].chunk);
        PyBuffer_Release(&writes[count].fds);
    }
    free(writes);
}

/* How many buffers of the batch were taken; less than its length: an exception is set. */
static Py_ssize_t take(PyObject *batch, Py_ssize_t count, struct write *writes) {
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *one = PyList_GetItem(batch, place);
        if (!one || !PyTuple_Check(one)) {
            PyErr_SetString(PyExc_TypeError, "write_batch() needs a list of (sockets, chunk)");
            return place;
        }
        if (!PyArg_ParseTuple(one, "y*y*:write_batch", &writes[place].fds, &writes[place].chunk)) return place;
    }
    return count;
}

static PyObject *write_batch(PyObject *Py_UNUSED(module), PyObject *batch) {
    struct shortfalls shortfalls = {NULL, 0, 0};
    PyObject *result = NULL;
    if (!PyList_Check(batch)) return PyErr_Format(PyExc_TypeError, "write_batch() needs a list of (sockets, chunk)");
    Py_ssize_t count = PyList_Size(batch);
    struct write *writes = calloc((size_t)(count ? count : 1), sizeof *writes);
    if (!writes) return PyErr_NoMemory();
    Py_ssize_t taken = take(batch, count, writes);
    if (taken == count) {
        int is_whole;
        Py_BEGIN_ALLOW_THREADS
        is_whole = write_all_of(writes, count, &shortfalls);
        Py_END_ALLOW_THREADS
        result = is_whole ? as_list(&shortfalls) : PyErr_NoMemory();
    }
    free(shortfalls.all);
    release(writes, taken);
    return result;
}

static PyMethodDef functions[] = {
    {"write_batch", write_batch, METH_O, "See broadcaster.hub.live.writes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "broadcaster.hub.live._writes",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__writes(void) { return PyModule_Create(&module); }
