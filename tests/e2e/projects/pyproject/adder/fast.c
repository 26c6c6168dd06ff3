#include <Python.h>

long add(long one, long other);

static PyObject *fast_add(PyObject *self, PyObject *args)
{
	long one, other;

	(void)self;
	if (!PyArg_ParseTuple(args, "ll", &one, &other))
		return NULL;
	return PyLong_FromLong(add(one, other));
}

static PyMethodDef methods[] = {{"add", fast_add, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fast", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fast(void) { return PyModule_Create(&module); }
