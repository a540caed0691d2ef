/* page.h - a small page of coloured text: filled once, shown on a terminal and written as an SVG picture.
   SPDX-License-Identifier: MIT                                                                        */

#ifndef EXAMPLES_PAGE_H
#define EXAMPLES_PAGE_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_COLUMNS = 100, PAGE_LINES = 96 };

/* An ink is a number of the 256-colour palette, or one of these. */
enum { INK_TEXT = 0, INK_BOLD = 1, INK_DIM = 245, INK_BLOCK = 0x100 /* flag: dark text on a block of the colour */ };

typedef struct page {
    int      lines, shown;        /* lines finished; lines that page_show has printed */
    int      used[PAGE_LINES];    /* bytes in each line                               */
    char     text[PAGE_LINES][PAGE_COLUMNS];
    uint16_t ink[PAGE_LINES][PAGE_COLUMNS];
} page;

/* ---- filling --------------------------------------------------------------------------------------- */

static inline void page_line(page *p) /* end the line; what is too much for the page is lost */
{
    if (p->lines < PAGE_LINES - 1) p->used[++p->lines] = 0;
}

static inline void page_byte(page *p, int ink, char c)
{
    const int line = p->lines, at = p->used[line];
    if (at == PAGE_COLUMNS) return;
    if (((unsigned char)c & 0xc0) == 0x80 && at > 0) ink = p->ink[line][at - 1]; /* a UTF-8 character has one ink */
    p->text[line][at] = (unsigned char)c < ' ' || c == 127 ? ' ' : c; /* neither terminal nor XML likes control characters */
    p->ink[line][at] = (uint16_t)ink;
    p->used[line]++;
}

static inline void page_print(page *p, int ink, const char *format, ...)
{
    char text[4 * PAGE_COLUMNS];
    const char *c;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (c = text; *c; c++) {
        if (*c == '\n') page_line(p);
        else page_byte(p, ink, *c);
    }
}

/* Running text with an ink for each byte, broken at blanks. */
static inline void page_flow(page *p, const char *text, const uint16_t *ink, int count)
{
    int i = 0;
    while (i < count) {
        int end = i, stop, next;
        while (end < count && end - i < PAGE_COLUMNS && text[end] != '\n') end++;
        stop = next = end;
        if (end < count && text[end] != '\n' && text[end] != ' ') { /* full in the middle of a word: back to its blank */
            while (stop > i && text[stop - 1] != ' ') stop--;
            next = stop = stop > i ? stop : end;
            if (stop > i + 1 && text[stop - 1] == ' ') stop--;
        }
        if (next < count && (text[next] == '\n' || text[next] == ' ')) next++;
        for (; i < stop; i++) page_byte(p, ink[i], text[i]);
        page_line(p);
        i = next;
    }
}

/* ---- showing --------------------------------------------------------------------------------------- */

static inline void page_escape(FILE *f, int ink)
{
    if (ink & INK_BLOCK) fprintf(f, "\033[0;38;5;16;48;5;%dm", ink & 255);
    else if (ink == INK_BOLD) fputs("\033[0;1m", f);
    else if (ink == INK_TEXT) fputs("\033[0m", f);
    else fprintf(f, "\033[0;38;5;%dm", ink);
}

/* Print the finished lines that were not printed yet. */
static inline void page_show(page *p, FILE *f, int color)
{
    for (; p->shown < p->lines; p->shown++) {
        const int line = p->shown;
        int i, ink = INK_TEXT;
        for (i = 0; i < p->used[line]; i++) {
            if (color && p->ink[line][i] != ink) page_escape(f, ink = p->ink[line][i]);
            fputc(p->text[line][i], f);
        }
        if (ink != INK_TEXT) page_escape(f, INK_TEXT);
        fputc('\n', f);
    }
    fflush(f);
}

/* ---- picture --------------------------------------------------------------------------------------- */

#define SVG_PAPER "#0d1117"

/* "#rrggbb" of an ink: the palette from 16 on is a cube of six levels a channel, then a ramp of greys. */
static inline const char *svg_color(int ink, char out[8])
{
    static const int level[6] = { 0, 95, 135, 175, 215, 255 };
    const int c = (ink & 255) - 16;
    if (ink == INK_TEXT) return "#c9d1d9";
    if (ink == INK_BOLD) return "#ffffff";
    if (c >= 216) snprintf(out, 8, "#%02x%02x%02x", (8 + 10 * (c - 216)) & 255, (8 + 10 * (c - 216)) & 255, (8 + 10 * (c - 216)) & 255);
    else snprintf(out, 8, "#%02x%02x%02x", level[c / 36 % 6], level[c / 6 % 6], level[c % 6]);
    return out;
}

/* Bytes of the UTF-8 character at s, 0 if there is no whole one. */
static inline int utf8_length(const char *s, int room)
{
    const unsigned char c = (unsigned char)*s;
    const int n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    int i;
    for (i = 1; i < n; i++)
        if (i >= room || ((unsigned char)s[i] & 0xc0) != 0x80) return 0;
    return n;
}

/* Text with XML's characters escaped; half characters become '?', since a picture must be valid UTF-8. */
static inline void svg_escaped(FILE *f, const char *s, int count)
{
    int i = 0;
    while (i < count) {
        const int n = utf8_length(s + i, count - i);
        if (s[i] == '<') fputs("&lt;", f);
        else if (s[i] == '>') fputs("&gt;", f);
        else if (s[i] == '&') fputs("&amp;", f);
        else if (n == 0) fputc('?', f);
        else fwrite(s + i, 1, (size_t)n, f);
        i += n ? n : 1;
    }
}

static inline int svg_columns(const char *s, int count)
{
    int i = 0, columns = 0;
    for (; i < count; columns++) {
        const int n = utf8_length(s + i, count - i);
        i += n ? n : 1;
    }
    return columns;
}

/* Is the blank at s[i] followed by another, or the last? Viewers drop such blanks. */
static inline int svg_gap(const char *s, int i, int count)
{
    return s[i] == ' ' && (i + 1 == count || s[i + 1] == ' ');
}

/* Text in one ink, in pieces without gaps. x and textLength keep columns straight whatever the font. */
static inline void svg_text(FILE *f, double x, int y, double cell, int ink, const char *s, int count)
{
    char color[8];
    int i, n, columns;
    for (i = 0; i < count; i += n, x += cell * columns) {
        n = columns = 1;
        if (s[i] == ' ') continue;
        while (i + n < count && !svg_gap(s, i + n, count)) n++;
        columns = svg_columns(s + i, n);
        fprintf(f, "<text x=\"%.2f\" y=\"%d\" textLength=\"%.2f\" fill=\"%s\"%s>", x, y, cell * columns,
                ink & INK_BLOCK ? SVG_PAPER : svg_color(ink, color), ink == INK_BOLD ? " font-weight=\"bold\"" : "");
        svg_escaped(f, s + i, n);
        fputs("</text>\n", f);
    }
}

static inline void page_svg(const page *p, FILE *f)
{
    enum { WIDTH = 900, MARGIN = 34, STEP = 20 };
    const double cell = (double)(WIDTH - 2 * MARGIN) / PAGE_COLUMNS;
    const int height = 2 * MARGIN + STEP * p->lines - 8;
    char color[8];
    int line, from, to;
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
               "font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13.5\">\n"
               "<rect width=\"%d\" height=\"%d\" rx=\"14\" fill=\"%s\"/>\n", WIDTH, height, WIDTH, height, WIDTH, height, SVG_PAPER);
    for (line = 0; line < p->lines; line++) {
        const char *text = p->text[line];
        const int y = MARGIN + 8 + STEP * line;
        double x = MARGIN;
        for (from = 0; from < p->used[line]; from = to) {
            const int ink = p->ink[line][from];
            double width;
            for (to = from + 1; to < p->used[line] && p->ink[line][to] == ink;) to++;
            width = cell * svg_columns(text + from, to - from);
            if (ink & INK_BLOCK)
                fprintf(f, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"19\" fill=\"%s\"/>\n", x, y - 14, width, svg_color(ink, color));
            svg_text(f, x, y, cell, ink, text + from, to - from);
            x += width;
        }
    }
    fputs("</svg>\n", f);
}

#endif
