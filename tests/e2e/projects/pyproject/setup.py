from setuptools import Extension, setup

setup(packages=["adder"], ext_modules=[Extension("adder._fast", ["adder/fast.c", "adder/add.c"])])
