/* report.h - results of a benchmark: records, aligned tables, CSV, plots with logarithmic axes
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h and examples/common.h. A record has a cell for every column, most of them empty; a table is a choice of
   columns, for the records that carry its number. The CSV has all of them.                                            */

#ifndef LTX_REPORT_H
#define LTX_REPORT_H

#include <math.h>

enum { REPORT_COLUMNS = 64, REPORT_TEXTS = 8, REPORT_TEXT = 40 };

typedef struct column { const char *csv, *title; int digits; } column; /* csv "": only in tables */
typedef struct table { const char *csv, *title; int columns[20]; } table; /* columns end with -1; csv "": not in the CSV */
typedef struct record {
    int    table;
    char   text[REPORT_TEXTS][REPORT_TEXT]; /* of the first columns */
    double v[REPORT_COLUMNS];               /* of the others, NAN = empty */
} record;
typedef struct report {
    const column *columns;
    const table  *tables;
    int           n_columns, n_texts, n_tables, group; /* group: the text column by which tables are told apart */
    record       *records;
    int           n, room;
} report;

static inline record *report_add(report *r, int t, const char *group)
{
    record *x;
    int i;
    if (r->n == r->room) {
        r->room = r->room * 2 + 64;
        r->records = (record *)realloc(r->records, (size_t)r->room * sizeof *r->records);
        if (r->records == NULL) die(EXIT_FAILED, "no memory for %d records", r->room);
    }
    x = &r->records[r->n++];
    memset(x->text, 0, sizeof x->text);
    x->table = t;
    for (i = 0; i < REPORT_COLUMNS; i++) x->v[i] = NAN;
    snprintf(x->text[r->group], REPORT_TEXT, "%s", group);
    return x;
}

/* ---- tables and CSV ---------------------------------------------------------------------------------------------- */

static inline void report_cell(const report *r, const record *x, int c, int exact, char *out, size_t size)
{
    out[0] = 0;
    if (c < r->n_texts) snprintf(out, size, "%s", x->text[c]);
    else if (!isnan(x->v[c])) snprintf(out, size, exact ? "%.*g" : "%.*f", exact ? 7 : r->columns[c].digits, x->v[c]);
}
static inline int report_in(const report *r, const record *x, int t, const char *group)
{
    return x->table == t && strcmp(x->text[r->group], group) == 0;
}
static inline void report_line(const report *r, int t, const record *x, const int *width) /* x NULL: titles */
{
    char cell[64];
    int i, c;
    for (i = 0; (c = r->tables[t].columns[i]) >= 0; i++) {
        if (x == NULL) snprintf(cell, sizeof cell, "%s", r->columns[c].title);
        else report_cell(r, x, c, 0, cell, sizeof cell);
        printf("%s%*s", i > 0 ? "  " : "", c < r->n_texts ? -width[i] : width[i], cell);
    }
    putchar('\n');
}
static inline void report_table(const report *r, int t, const char *group)
{
    int width[20], i, k, len, any = 0;
    char cell[64];
    for (i = 0; r->tables[t].columns[i] >= 0; i++) width[i] = (int)strlen(r->columns[r->tables[t].columns[i]].title);
    for (k = 0; k < r->n; k++) for (i = 0; report_in(r, &r->records[k], t, group) && r->tables[t].columns[i] >= 0; i++) {
        report_cell(r, &r->records[k], r->tables[t].columns[i], 0, cell, sizeof cell);
        len = (int)strlen(cell);
        if (len > width[i]) width[i] = len;
        any = 1;
    }
    if (!any) return;
    printf("\n%s%s%s\n", group, group[0] != 0 ? ": " : "", r->tables[t].title);
    report_line(r, t, NULL, width);
    for (k = 0; k < r->n; k++) if (report_in(r, &r->records[k], t, group)) report_line(r, t, &r->records[k], width);
    fflush(stdout);
}
static inline FILE *report_open(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) die(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
    return f;
}
static inline void report_close(FILE *f, const char *path)
{
    if (ferror(f) | fclose(f)) die(EXIT_FAILED, "cannot write %s", path);
}
static inline void report_csv(const report *r, FILE *f)
{
    char cell[64];
    int i, k;
    fputs("table", f);
    for (i = 0; i < r->n_columns; i++) if (r->columns[i].csv[0] != 0) fprintf(f, ",%s", r->columns[i].csv);
    fputc('\n', f);
    for (k = 0; k < r->n; k++) {
        const char *name = r->tables[r->records[k].table].csv;
        if (name[0] == 0) continue;
        fputs(name, f);
        for (i = 0; i < r->n_columns; i++) if (r->columns[i].csv[0] != 0) {
            report_cell(r, &r->records[k], i, 1, cell, sizeof cell);
            fprintf(f, i < r->n_texts && strchr(cell, ',') != NULL ? ",\"%s\"" : ",%s", cell);
        }
        fputc('\n', f);
    }
}

/* ---- plots ------------------------------------------------------------------------------------------------------- 
   Panels in an SVG with its own light background, so that it reads on white and on dark pages. Both axes are logarithmic.  */

typedef struct panel { FILE *f; double left, top, width, height, x0, x1, y0, y1; } panel;

static inline double panel_x(const panel *p, double x) { return p->left + log(x / p->x0) / log(p->x1 / p->x0) * p->width; }
static inline double panel_y(const panel *p, double y) { return p->top + p->height - log(y / p->y0) / log(p->y1 / p->y0) * p->height; }
static inline int panel_has(const panel *p, double x, double y) { return x >= p->x0 * .999 && x <= p->x1 * 1.001 && y >= p->y0 * .999 && y <= p->y1 * 1.001; }

/* Ticks on x at the powers of two, on y at 1, 2, 5 times the powers of ten. */
static inline void panel_axes(const panel *p, const char *title, const char *x_title, const char *y_title)
{
    static const double steps[] = { 1, 2, 5 };
    double v;
    int power, i;
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"14\" font-weight=\"bold\">%s</text>\n", p->left, p->top - 14, title);
    for (v = p->x0; v <= p->x1 * 1.001; v *= 2)
        fprintf(p->f, "<path d=\"M%.1f %.1fv4\" stroke=\"#666\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                panel_x(p, v), p->top + p->height, panel_x(p, v), p->top + p->height + 17, v);
    for (power = -3; power < 7; power++) for (i = 0; i < 3; i++) {
        v = steps[i] * pow(10, power);
        if (!panel_has(p, p->x0, v)) continue;
        fprintf(p->f, "<path d=\"M%.1f %.1fh%.1f\" stroke=\"#e2e2dc\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                p->left, panel_y(p, v), p->width, p->left - 6, panel_y(p, v) + 4, v);
    }
    fprintf(p->f, "<path d=\"M%.1f %.1fv%.1fh%.1f\" fill=\"none\" stroke=\"#666\"/>\n", p->left, p->top, p->height, p->width);
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", p->left + p->width / 2, p->top + p->height + 37, x_title);
    fprintf(p->f, "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", p->left - 52, p->top + p->height / 2, y_title);
}
typedef struct stroke { const char *color, *dash; double width, dot; } stroke; /* dot: radius of the points, 0 = none */
static inline void panel_line(const panel *p, const double *x, const double *y, int n, stroke s)
{
    int i, any = 0;
    fprintf(p->f, "<path stroke=\"%s\" stroke-width=\"%g\" stroke-dasharray=\"%s\" stroke-linejoin=\"round\" fill=\"none\" d=\"", s.color, s.width, s.dash);
    for (i = 0; i < n; i++) if (panel_has(p, x[i], y[i])) fprintf(p->f, "%c%.1f %.1f", any++ == 0 ? 'M' : 'L', panel_x(p, x[i]), panel_y(p, y[i]));
    fprintf(p->f, "\"/>\n<g fill=\"%s\">", s.color);
    for (i = 0; s.dot > 0 && i < n; i++) if (panel_has(p, x[i], y[i])) fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"/>", panel_x(p, x[i]), panel_y(p, y[i]), s.dot);
    fputs("</g>\n", p->f);
}
static inline void panel_legend(FILE *f, double x, double y, const char *label, stroke s)
{
    fprintf(f, "<path d=\"M%.1f %.1fh22\" stroke=\"%s\" stroke-width=\"%g\" stroke-dasharray=\"%s\"/>", x, y, s.color, s.width, s.dash);
    if (s.dot > 0) fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"/>", x + 11, y, s.dot, s.color);
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 28, y + 4, label);
}

#endif /* LTX_REPORT_H */
