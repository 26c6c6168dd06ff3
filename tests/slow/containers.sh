#!/bin/bash
# An exported image under podman and buildah, rootless, without a registry and without a network: a build that runs gcc,
# make and what it built, with native tools and without, in times and in bytes; what a RUN has overwritten; the layer over
# an image of one's own.
#
#     apt-get install --no-install-recommends podman buildah crun fuse-overlayfs
#     tests/slow/containers.sh [TARGET]
#
# As an ordinary user, in a checkout with .venv (PYTHON names another python). IMAGES names a directory that keeps what is
# exported for the next run.
# crun wants a cgroup hierarchy of version 2. Takes some minutes, and 3 GB below TMPDIR. Ends with 0 only if all is well.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly target=${1:-armhf}
readonly image=localhost/xbuild-$target:trixie layer=localhost/xbuild-layer-$target:trixie
# Lower case: podman makes a name of it.
readonly work=${TMPDIR:-/var/tmp}/xbuild-containers.$$
mkdir -m 755 "$work"
readonly storage=(--root "$work/store" --runroot "$work/run" --storage-driver overlay)
readonly python=${PYTHON:-.venv/bin/python}
export XDG_RUNTIME_DIR=$work/runtime
mkdir -m 700 "$XDG_RUNTIME_DIR"

clean_up() {
    podman "${storage[@]}" system migrate || true
    # podman itself would mount something there.
    buildah unshare rm -rf "$work/store" "$work/run" || true
    rm -rf "$work"
}
trap clean_up EXIT

say() {
    printf '\n=== %s\n' "$1"
}

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

engine_build() {
    buildah "${storage[@]}" bud --quiet --format docker --layers=false --network=none --isolation=rootless "$@"
}

engine_run() {
    podman "${storage[@]}" run --rm --network=none "$@"
}

# A project of some files, as a Dockerfile's RUN builds it.
project() {
    local number
    mkdir -p "$1/src"
    for number in $(seq 1 24); do
        cat > "$1/src/part$number.c" << END
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
double part$number(int n)
{
    int values[256];
    char text[64];
    double sum = 0;
    for (int i = 0; i < 256; i++)
        values[i] = (i * 7919 + n) % 257;
    qsort(values, 256, sizeof *values, compare);
    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "%d:%d", i, values[i]);
        sum += strlen(text) * (values[i] + $number) / 7.0;
    }
    return sum;
}
END
        echo "double part$number(int);" >> "$1/src/parts.h"
    done
    {
        printf '#include <stdio.h>\n#include "parts.h"\nint main(void)\n{\n    double sum = 0;\n'
        printf '    sum += part%d(3);\n' $(seq 1 24)
        printf '    printf("%%.6f\\n", sum);\n    return 0;\n}\n'
    } > "$1/src/main.c"
    printf '%s\n' 'CFLAGS = -O2 -g' 'OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))' 'program: $(OBJECTS)' \
        $'\t$(CC) -o $@ $^' > "$1/src/Makefile"
}

say "export"
readonly images=${IMAGES:-$work}/$target
mkdir -p "$images"
if [ ! -e "$images/layer.tar.gz" ]; then
    "$python" -m invoke export --target "$target" --tar "$images/image.tar"
    "$python" -m invoke export --target "$target" --layer --oci "$images/layer"
    "$python" -m invoke export --target "$target" --layer --tar "$images/layer.tar.gz"
fi
skopeo inspect "oci-archive:$images/image.tar" > /dev/null
skopeo inspect "docker-archive:$images/image.tar" > /dev/null
skopeo inspect "oci:$images/layer" > /dev/null
podman "${storage[@]}" load --quiet --input "$images/image.tar"

say "podman run"
engine_run "$image" /.xbuild/enter --status
engine_run --user 1000:1000 "$image" /.xbuild/enter --status
time engine_run "$image" true

say "a build with native tools, and the same emulated"
project "$work/context"
cat > "$work/context/Dockerfile" << END
FROM $image
ARG XBUILD_ENTER=require
COPY src /src
WORKDIR /src
RUN make -j2 && ./program > answer
RUN readelf -h program | grep Machine && sha256sum program *.o > sums
END
for wish in require emulated; do
    printf '%s: ' "$wish"
    start=$(date +%s.%N)
    engine_build --build-arg "XBUILD_ENTER=$wish" --tag "built-$wish" "$work/context" > /dev/null
    awk -v start="$start" -v end="$(date +%s.%N)" 'BEGIN { printf "%.1f s for the whole of buildah\n", end - start }'
    engine_run "built-$wish" sh -c 'cat /src/answer /src/sums' > "$work/$wish"
    cat > "$work/context/again" << END
FROM built-$wish
ARG XBUILD_ENTER=$wish
RUN rm -f *.o program; bash -c 'time make -j2'
END
    engine_build --build-arg "XBUILD_ENTER=$wish" --file "$work/context/again" "$work/context" 2>&1 | grep -E 'real|user|sys'
done
cmp "$work/require" "$work/emulated" || fail "the two builds differ"
head -1 "$work/require"

say "which programs ran, and how"
mkdir -m 777 "$work/records"
engine_run --volume "$work/records:/records" --env XBUILD_RECORD=/records/record built-require \
    sh -c 'make -B program > /dev/null && ./program'
"$python" - "$work/records/record" << 'END'
import sys
from pathlib import Path
from xbuild.formats.record import read
known = read(Path(sys.argv[1]))
for (path, verdict), count in sorted(known.counts.items()):
    print(f"{count:5} {verdict.name:10} {path}")
assert set(known.total(native=False)) == {"/src/program"}
END

say "what a RUN has overwritten is never substituted"
cat > "$work/context/overwritten" << END
FROM $image
ENV XBUILD_ENTER=require
RUN echo mine > /mine && readlink /proc/self/exe && cp /usr/bin/cat /usr/bin/readlink && test "\$(readlink /mine)" = mine
RUN test "\$(readlink /mine)" = mine
END
engine_build --file "$work/context/overwritten" --tag overwritten "$work/context"
[ "$(engine_run overwritten readlink /mine)" = mine ] || fail "a twin ran for a file that was overwritten"

say "the layer over an image of one's own"
mkdir "$work/own"
digest=$("$python" -c "
import json, sys, tarfile
tar = tarfile.open('$images/image.tar')
print(json.load(tar.extractfile('manifest.json'))[0]['Layers'][0])")
tar -xf "$images/image.tar" -O "$digest" > "$work/own/root.tar.gz"
printf 'FROM scratch\nADD root.tar.gz /\n' > "$work/own/Dockerfile"
engine_build --tag own "$work/own"
podman "${storage[@]}" tag "$(podman "${storage[@]}" pull --quiet "oci:$images/layer")" "$layer"
cp "$images/layer.tar.gz" "$work/own/"
for way in "COPY --from=$layer / /" "ADD layer.tar.gz /"; do
    printf '%s\n' "$way"
    cat > "$work/own/Dockerfile" << END
FROM own
$way
SHELL ["/.xbuild/enter", "/bin/sh", "-c"]
ENV XBUILD_ENTER=require
RUN /.xbuild/enter --status >&2 && echo 'int main(void) { return 7; }' > a.c && gcc a.c && { ./a.out; test \$? = 7; }
END
    engine_build "$work/own"
done
say "all is well"
