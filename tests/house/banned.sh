#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# banned.sh SOURCE LIBRARY...: no object of the library prints, ends the process or takes memory behind base's back.
# Asked of the object files, so that no macro or comment can fool it.
set -u
source=$1 bad=0
shift
words='printf vprintf puts putchar putc fputc perror stdout stderr exit _exit _Exit quick_exit abort __assert_fail
malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign strdup strndup asprintf vasprintf getline
system popen rand srand random drand48 setlocale signal sprintf strcpy strcat gets strtok'
pattern=$(echo $words | tr ' ' '|')
for library in "$@"; do
    [ -s "$library" ] || { echo "no library $library"; exit 1; }
    found=$(nm -A -u "$library" 2>/dev/null | grep -E "[ :]U ($pattern)(@|\$)" | grep -vE '\.pb-c\.c\.o|src_base_memory\.c\.o')
    if [ -n "$found" ]; then
        echo "$found" | sed 's/.*[:\/]\([^:]*\.o\): *U */\1 calls /'
        bad=1
    fi
    count=$(nm "$library" 2>/dev/null | grep -c ' T sk_')
    # An empty archive would pass all of the above.
    [ "$count" -ge 8 ] || { echo "$library: only $count functions found, nm sees nothing"; bad=1; }
    outside=$(nm "$library" 2>/dev/null | awk '$2 ~ /^[TDBRC]$/ && $3 !~ /^(sk_|onnx__|_|\.gomp_)/ { print $3 }')
    if [ -n "$outside" ]; then
        echo "$outside" | sed 's/$/ has external linkage without the prefix sk_/'
        bad=1
    fi
done
# Writing goes through sk_output alone, so that nobody ever sees half a file.
if grep -rnE '\bfopen *\([^;]*"(w|a|r\+)|\bO_(WRONLY|RDWR|CREAT)\b|\bcreat *\(' "$source/src" | grep -v 'src/base/output.c'; then
    echo "files are written through sk_output (src/base/output.c) only"
    bad=1
fi
exit $bad
