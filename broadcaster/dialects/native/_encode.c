/* The chunker of encode.py in C. Built where a compiler is found (hatch_build.py). Stable ABI of CPython 3.11. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

typedef unsigned long long number;

enum { DIGITS = 20, HEX_DIGITS = 16 }; /* of the largest number */

static Py_ssize_t decimal(char *to, number n) {
    char reversed[DIGITS];
    Py_ssize_t count = 0;
    do reversed[count++] = (char)('0' + n % 10);
    while (n /= 10);
    for (Py_ssize_t at = 0; at < count; at++) to[at] = reversed[count - 1 - at];
    return count;
}

static Py_ssize_t hexadecimal(char *to, size_t n) {
    char reversed[HEX_DIGITS];
    Py_ssize_t count = 0;
    do reversed[count++] = "0123456789abcdef"[n % 16];
    while (n /= 16);
    for (Py_ssize_t at = 0; at < count; at++) to[at] = reversed[count - 1 - at];
    return count;
}

static char *put(char *to, const char *from, Py_ssize_t size) {
    memcpy(to, from, (size_t)size);
    return to + size;
}

/* The size of the frames of the events; -1: an exception is set; -2: one of them has several lines. */
static Py_ssize_t frames_size(PyObject *events, Py_ssize_t head, number seq) {
    Py_ssize_t total = 0;
    char digits[DIGITS];
    for (Py_ssize_t at = 0, count = PyList_Size(events); at < count; at++) {
        char *event;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GetItem(events, at), &event, &size) < 0) return -1;
        if (memchr(event, '\n', (size_t)size) || memchr(event, '\r', (size_t)size)) return -2;
        total += head + decimal(digits, seq++) + size + (Py_ssize_t)strlen("\ndata: \n\n");
    }
    return total;
}

static PyObject *native_chunk(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3 || !PyList_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "native_chunk() needs epoch, last_seq, list");
    number epoch = PyLong_AsUnsignedLongLong(args[0]), last_seq = PyLong_AsUnsignedLongLong(args[1]);
    Py_ssize_t count = PyList_Size(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (!count || last_seq < (number)count)
        return PyErr_Format(PyExc_ValueError, "native_chunk() needs events, and seqs from 1 on");

    char head[DIGITS + 5] = "id: ", size_line[HEX_DIGITS + 2];
    Py_ssize_t head_size = 4 + decimal(head + 4, epoch);
    head[head_size++] = '-';
    number seq = last_seq - (number)count + 1;
    Py_ssize_t body_size = frames_size(args[2], head_size, seq);
    if (body_size == -1) return NULL;
    if (body_size == -2) Py_RETURN_NONE;
    Py_ssize_t line_size = hexadecimal(size_line, (size_t)body_size);
    size_line[line_size++] = '\r';
    size_line[line_size++] = '\n';

    PyObject *chunk = PyBytes_FromStringAndSize(NULL, line_size + body_size + 2);
    if (!chunk) return NULL;
    char *to = put(PyBytes_AsString(chunk), size_line, line_size);
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *event = PyList_GetItem(args[2], at);
        to = put(to, head, head_size);
        to += decimal(to, seq++);
        to = put(to, "\ndata: ", 7);
        to = put(to, PyBytes_AsString(event), PyBytes_Size(event));
        to = put(to, "\n\n", 2);
    }
    put(to, "\r\n", 2);
    return chunk;
}

static PyMethodDef functions[] = {
    {"native_chunk", (PyCFunction)(void (*)(void))native_chunk, METH_FASTCALL, "See broadcaster.dialects.native.encode."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "broadcaster.dialects.native._encode",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__encode(void) { return PyModule_Create(&module); }
