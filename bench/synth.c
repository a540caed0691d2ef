/* synth - write a GGUF model of a real shape with random weights, for measuring time
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o synth synth.c -lm            synth --help            How it is made: synth.h */

#define _POSIX_C_SOURCE 200112L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "../examples/common.h"
#include "synth.h"

static void print_help(void)
{
    char formats[1024];
    int i;
    synth_list_formats(formats, sizeof formats);
    puts("usage: synth SHAPE FORMAT FILE.gguf       write a model of random weights\n"
         "\n"
         "The file loads in ltx.h and in llama.cpp and takes as long to run as a trained model of that shape; what it says is\n"
         "nonsense. The same shape and format give the same bytes everywhere.\n"
         "\n"
         "SHAPE");
    for (i = 0; i < SYNTH_COUNT(synth_shapes); i++) {
        const synth_shape *m = &synth_shapes[i];
        printf("  %-5s %s: dim %d, %d layers, %d heads, %d kv heads, ffn %d, vocabulary %d, tied head, context %d\n", m->name, m->title,
               (int)m->dim, (int)m->layers, (int)m->heads, (int)m->kv_heads, (int)m->ffn, (int)m->vocab, (int)m->ctx);
    }
    printf("FORMAT\n  %s\n", formats);
    puts("  of all matrices; where a row is no multiple of the format's block, q8_0 or f16 steps in. The _m formats are\n"
         "  mixes: attn_v and ffn_down of some layers and the embedding in q6_k, as llama-quantize makes them.\n"
         "\n"
         "example\n"
         "  synth 135m q8_0 smol.gguf && generate smol.gguf --prompt hello\n"
         "\n"
         "Exit status: 0 written, 1 could not write, 2 wrong usage.");
}

int main(int argc, char **argv)
{
    const synth_shape *shape;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) { print_help(); return 0; }
    if (argc != 4) die(EXIT_USAGE, "wants a shape, a format and a file; see synth --help");
    shape = synth_find_shape(argv[1]);
    if (shape == NULL) die(EXIT_USAGE, "there is no shape %s; see synth --help", argv[1]);
    synth_write(shape, argv[2], argv[3]);
    return 0;
}
