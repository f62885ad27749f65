/* ``next_events`` of push.py in C. Built where a compiler is found (hatch_build.py). Stable ABI of CPython 3.11. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

typedef unsigned long long number;

enum { DIGITS = 20 }; /* of the largest number */

/* Lines that begin so begin or end an attempt (core/events.py). */
static const char *const refused[] = {
    "{\"type\":\"finish\"",
    "{\"type\":\"error\"",
    "{\"type\":\"abort\"",
    "{\"type\":\"attempt\"",
};

static int is_refused(const char *event, size_t size) {
    for (size_t at = 0; at < sizeof refused / sizeof *refused; at++) {
        size_t length = strlen(refused[at]);
        if (size >= length && !memcmp(event, refused[at], length)) return 1;
    }
    return 0;
}

/* Behind this number and this character, if the text has them at ``at``; else NULL. Printing them to compare took two
 * fifths of the reading of a push. */
static const char *behind(const char *at, const char *end, number n, char last) {
    char reversed[DIGITS];
    Py_ssize_t count = 0;
    do reversed[count++] = (char)('0' + n % 10);
    while (n /= 10);
    if (end - at <= count || at[count] != last) return NULL;
    while (count) if (*at++ != reversed[--count]) return NULL;
    return at + 1;
}

/* The lines from ``at`` to ``end`` as a list, if they are ``count``; None: they are not, or one is empty or refused. */
static PyObject *events_of(const char *at, const char *end, const char *count) {
    PyObject *events = PyList_New(0);
    number lines = 0;
    for (int is_last = 0; events && !is_last; lines++) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        is_last = !line_end;
        if (is_last) line_end = end;
        if (line_end == at || is_refused(at, (size_t)(line_end - at))) {
            Py_DECREF(events);
            Py_RETURN_NONE;
        }
        PyObject *event = PyBytes_FromStringAndSize(at, line_end - at);
        if (!event || PyList_Append(events, event) < 0) Py_CLEAR(events);
        Py_XDECREF(event);
        at = line_end + 1;
    }
    if (events && !behind(count, end, lines, '\n')) {
        Py_DECREF(events);
        Py_RETURN_NONE;
    }
    return events;
}

static PyObject *next_events(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    char *payload;
    Py_ssize_t size;
    if (nargs != 3) return PyErr_Format(PyExc_TypeError, "next_events() needs payload, epoch, last_seq");
    if (PyBytes_AsStringAndSize(args[0], &payload, &size) < 0) return NULL;
    number epoch = PyLong_AsUnsignedLongLong(args[1]), last_seq = PyLong_AsUnsignedLongLong(args[2]);
    if (PyErr_Occurred()) return NULL;

    const char *end = payload + size, *count = behind(payload, end, 1, ' ');
    if (count) count = behind(count, end, epoch, ' ');
    if (count) count = behind(count, end, last_seq + 1, ' ');
    const char *head_end = count ? memchr(count, '\n', (size_t)(end - count)) : NULL;
    if (!head_end) Py_RETURN_NONE;
    return events_of(head_end + 1, end, count);
}

static PyMethodDef functions[] = {
    {"next_events", (PyCFunction)(void (*)(void))next_events, METH_FASTCALL, "See broadcaster.log.tail.push."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "broadcaster.log.tail._push",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__push(void) { return PyModule_Create(&module); }
