/* The loop of writes.py in C: one chunk to many sockets. Built where a compiler is found (hatch_build.py); writes.py does
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
    int fd;
    Py_ssize_t taken;
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

/* No object is touched and nothing else written to between two writes: the interpreter runs other threads meanwhile.
 * -1: no memory. */
static Py_ssize_t write_all_to(const int *fds, Py_ssize_t count, const char *chunk, Py_ssize_t size,
                               struct shortfall **shortfalls) {
    Py_ssize_t short_count = 0, room = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_ssize_t taken = write_to(fds[at], chunk, size);
        if (taken == size) continue;
        if (short_count == room) {
            struct shortfall *more = realloc(*shortfalls, (size_t)(room = room ? room * 2 : 16) * sizeof **shortfalls);
            if (!more) return -1;
            *shortfalls = more;
        }
        (*shortfalls)[short_count++] = (struct shortfall){fds[at], taken};
    }
    return short_count;
}

static PyObject *as_list(const struct shortfall *shortfalls, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t at = 0; list && at < count; at++) {
        PyObject *pair = Py_BuildValue("(in)", shortfalls[at].fd, shortfalls[at].taken);
        if (!pair || PyList_SetItem(list, at, pair)) Py_CLEAR(list);
    }
    return list;
}

static PyObject *write_all(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer fds, chunk;
    struct shortfall *shortfalls = NULL;
    Py_ssize_t count;
    PyObject *result;
    if (!PyArg_ParseTuple(args, "y*y*:write_all", &fds, &chunk)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    count = write_all_to(fds.buf, fds.len / (Py_ssize_t)sizeof(int), chunk.buf, chunk.len, &shortfalls);
    Py_END_ALLOW_THREADS
    result = count < 0 ? PyErr_NoMemory() : as_list(shortfalls, count);
    free(shortfalls);
    PyBuffer_Release(&chunk);
    PyBuffer_Release(&fds);
    return result;
}

static PyMethodDef functions[] = {
    {"write_all", write_all, METH_VARARGS, "See broadcaster.hub.live.writes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "broadcaster.hub.live._writes",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__writes(void) { return PyModule_Create(&module); }
