#!/bin/sh
# Makes the ELF files of this directory: sh make.sh OUTPUT_DIRECTORY, where gcc, gcc-arm-linux-gnueabihf and
# gcc-aarch64-linux-gnu are (the files here: those of Debian 13, gcc 14.2.0-19, binutils 2.44).
set -eu
cd "$1"
arm=arm-linux-gnueabihf arm64=aarch64-linux-gnu

# noseparate-code, norelro and 4 KiB pages keep the segments together: each file stays below 4 kB.
small="-O2 -s -nostdlib -fno-asynchronous-unwind-tables -Wl,-z,noseparate-code,-z,norelro,-z,max-page-size=4096"
plain="$small -Wl,--build-id=none"

printf 'double half(double x) { return x / 2; }\n' >half.c
printf 'double half(double); volatile double y; void _start(void) { y = half(y); for (;;) ; }\n' >start.c
printf '.globl leaf\nleaf: bx lr\n' >leaf.s

$arm-gcc -c -O2 half.c -o armhf.o
$arm-gcc -c -O2 -mfloat-abi=soft half.c -o armel.o
$arm-gcc -c leaf.s -o armhf-neutral.o
$arm-gcc -shared -fPIC $plain -Wl,-soname,libhalf.so.1 half.c -o libhalf.so.1
$arm-gcc -static -no-pie $plain start.c half.c -o armhf-static
$arm-gcc -static-pie $plain -Wl,--no-dynamic-linker start.c half.c -o armhf-static-pie
$arm-gcc -pie $small -Wl,--build-id=sha1 start.c libhalf.so.1 -o armhf-pie
$arm-objcopy --only-keep-debug armhf-pie armhf-debug
$arm-gcc -pie $plain -Wl,--disable-new-dtags,-rpath,/.xbuild/lib start.c libhalf.so.1 -o armhf-rpath
$arm-gcc -pie $plain -Wl,--enable-new-dtags,-rpath,/usr/lib:/build/src start.c libhalf.so.1 -o armhf-runpath
$arm-gcc -pie $plain -Wl,--dynamic-linker,/lib/ld-linux.so.3 start.c libhalf.so.1 -o armhf-interpreter
for version in 1 2; do
    printf 'HALF_%s { half; };\n' $version >half.map
    $arm-gcc -shared -fPIC $plain -Wl,-soname,libhalf.so.1,--version-script,half.map half.c -o half.so
    $arm-gcc -pie $plain start.c half.so -o armhf-half-$version
done
$arm64-gcc -static -no-pie $plain start.c half.c -o arm64-static
$arm64-gcc -c -O2 half.c -o arm64.o
gcc -static -no-pie $plain start.c half.c -o amd64-static
gcc -c -O2 half.c -o amd64.o

cp armhf.o a-name-longer-than-fifteen-characters.o
rm -f armhf.a mixed.a
$arm-ar rcsD armhf.a armhf.o armhf-neutral.o a-name-longer-than-fifteen-characters.o
# x86 among ARM: ar takes whatever it is given.
ar rcsD mixed.a armhf.o amd64.o a-name-longer-than-fifteen-characters.o
rm half.c half.map half.so start.c leaf.s a-name-longer-than-fifteen-characters.o
