/* html_chart.h - one self-contained HTML page: style for light and dark, charts in SVG, tables of a report; no scripts
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after bench/report.h. Colours are CSS variables, a series is a class s1 .. s6; what a point means is in its <title>, which
   browsers show under the pointer.                                                                                          */

#ifndef LTX_HTML_CHART_H
#define LTX_HTML_CHART_H

typedef struct chart {
    FILE  *f;
    double left, top, width, height, x0, x1, y0, y1;
    int    root; /* y is drawn by its square root, with its sign: small values stay visible beside large ones */
} chart;

static inline void html_begin(FILE *f, const char *title)
{
    fprintf(f, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
               "<meta name=\"color-scheme\" content=\"light dark\">\n<title>%s</title>\n<style>\n", title);
    fputs(":root{--bg:#f7f6f2;--card:#fff;--ink:#1e2126;--dim:#676c75;--line:#e4e1d9;--c1:#2b6cb0;--c2:#d8732a;--c3:#2c8a58;--c4:#8b4aa6;--c5:#bf3550;--c6:#8a8f99;--mix:.42}\n"
          "@media (prefers-color-scheme:dark){:root{--bg:#15171b;--card:#1d2026;--ink:#e6e7ea;--dim:#9aa0aa;--line:#323741;--c1:#6aa9ea;--c2:#f09a56;--c3:#5fc48e;--c4:#c68be0;--c5:#f07b90;--c6:#8b919c;--mix:.5}}\n"
          "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}\n"
          "main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;line-height:1.2;margin:0 0 4px}h2{font-size:17px;margin:0 0 2px}\n"
          "p{margin:0 0 12px}.dim{color:var(--dim)}.note{color:var(--dim);font-size:13.5px;max-width:85ch}code{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}\n"
          ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px;margin:16px 0}.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}\n"
          ".grid .card{display:flex;flex-direction:column}.grid .keys{margin-bottom:10px}.grid svg{margin-top:auto;order:1}.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;min-width:0}.wide{margin:16px 0}\n"
          ".big{font-size:34px;font-weight:650;line-height:1.15;letter-spacing:-.01em}.big small{font-size:15px;font-weight:400;color:var(--dim);letter-spacing:0}\n"
          "svg{display:block;width:100%;height:auto;margin-top:6px;font-size:12px;fill:var(--ink)}svg .ax{fill:var(--dim)}svg .grid-line{stroke:var(--line)}svg .axis{stroke:var(--dim);fill:none}\n"
          ".s1{--s:var(--c1)}.s2{--s:var(--c2)}.s3{--s:var(--c3)}.s4{--s:var(--c4)}.s5{--s:var(--c5)}.s6{--s:var(--c6)}\n"
          ".line{stroke:var(--s);stroke-width:2;fill:none;stroke-linejoin:round}.dash{stroke-dasharray:5 4}.dot{fill:var(--s)}.hollow{fill:var(--card);stroke:var(--s);stroke-width:1.5}.ring{fill:none;stroke:var(--ink);stroke-width:2}.bar{fill:var(--s)}\n"
          ".keys{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;color:var(--dim);margin-top:4px}.keys i{display:inline-block;width:14px;height:4px;border-radius:2px;background:var(--s);margin-right:6px;vertical-align:middle}\n"
          ".text{font:15px/1.85 Georgia,'Times New Roman',serif;white-space:pre-wrap;overflow-wrap:anywhere;margin:10px 0 8px}.text span,.ramp span{background:hsl(calc(212 - 186*var(--d)) 85% 52%/calc(.16 + var(--mix)*var(--d)))}\n"
          ".text span{padding:2px 0}.text .miss{box-shadow:inset 0 -2px var(--dim)}.ramp{display:flex;font-size:12px;max-width:520px}.ramp span{flex:1;text-align:center;padding:2px 0}\n"
          ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap;margin:8px 0}th{text-align:right;font-weight:500;color:var(--dim);border-bottom:1px solid var(--line);padding:3px 10px}\n"
          "td{text-align:right;padding:2px 10px;border-bottom:1px solid var(--line)}td.t,th.t{text-align:left}summary{cursor:pointer}details{margin:8px 0}\n"
          "</style>\n</head>\n<body>\n<main>\n", f);
}
static inline void html_end(FILE *f) { fputs("</main>\n</body>\n</html>\n", f); }

static inline void html_text(FILE *f, const char *s, int n) /* control characters other than line ends become blanks */
{
    int i;
    for (i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '<') fputs("&lt;", f);
        else if (c == '>') fputs("&gt;", f);
        else if (c == '&') fputs("&amp;", f);
        else if (c == '"') fputs("&quot;", f);
        else fputc((c < ' ' && c != '\n') || c == 127 ? ' ' : c, f);
    }
}

/* ---- charts ------------------------------------------------------------------------------------------------------ */

static inline double chart_root(double y) { return y < 0 ? -sqrt(-y) : sqrt(y); }
static inline double chart_x(const chart *c, double x) { return c->left + (x - c->x0) / (c->x1 - c->x0) * c->width; }
static inline double chart_y(const chart *c, double y)
{
    const double low = c->root ? chart_root(c->y0) : c->y0, high = c->root ? chart_root(c->y1) : c->y1;
    return c->top + c->height - ((c->root ? chart_root(y) : y) - low) / (high - low) * c->height;
}
static inline int chart_has(const chart *c, double x, double y)
{
    const double dx = 1e-9 * (c->x1 - c->x0), dy = 1e-9 * (c->y1 - c->y0);
    return x >= c->x0 - dx && x <= c->x1 + dx && y >= c->y0 - dy && y <= c->y1 + dy;
}
static inline chart chart_begin(FILE *f, const char *label, double height, double x0, double x1, double y0, double y1, int root)
{
    chart c = { NULL, 54, 10, 492, 0, 0, 0, 0, 0, 0 };
    c.f = f; c.height = height; c.x0 = x0; c.x1 = x1; c.y0 = y0; c.y1 = y1; c.root = root;
    fprintf(f, "<svg viewBox=\"0 0 560 %.0f\" role=\"img\" aria-label=\"%s\">\n", height + 56, label);
    return c;
}
static inline double chart_step(double range, int most) /* 1, 2 or 5 times a power of ten */
{
    const double step = pow(10, floor(log10(range / most)));
    return range / step <= most ? step : range / step / 2 <= most ? 2 * step : range / step / 5 <= most ? 5 * step : 10 * step;
}
static inline void chart_tick(const chart *c, double v)
{
    fprintf(c->f, "<path class=\"grid-line\" d=\"M%.1f %.1fh%.1f\"/><text class=\"ax\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
            c->left, chart_y(c, v), c->width, c->left - 8, chart_y(c, v) + 4, v);
}
static inline void chart_axes(const chart *c, const char *x_title, const char *y_title, int whole)
{
    static const double roots[] = { -500, -100, -20, -5, -1, 0, 0.01, .05, .2, .5, 1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000 };
    double step = chart_step(c->x1 - c->x0, whole ? 16 : 10), v, last = HUGE_VAL;
    int i;
    if (whole && step < 1) step = 1;
    for (i = 0; c->root && i < (int)(sizeof roots / sizeof *roots); i++)
        if (chart_has(c, c->x0, roots[i]) && (last - chart_y(c, roots[i]) > 15 || roots[i] == 0)) {
            chart_tick(c, roots[i]);
            last = chart_y(c, roots[i]);
        }
    for (v = ceil(c->y0 / chart_step(c->y1 - c->y0, 7)) * chart_step(c->y1 - c->y0, 7); !c->root && v <= c->y1 * (1 + 1e-9); v += chart_step(c->y1 - c->y0, 7))
        chart_tick(c, fabs(v) < 1e-12 ? 0 : v);
    for (v = ceil(c->x0 / step - 1e-9) * step; v <= c->x1 + step * 1e-6; v += step)
        fprintf(c->f, "<text class=\"ax\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.4g</text>\n", chart_x(c, v), c->top + c->height + 18, fabs(v) < 1e-9 ? 0 : v);
    fprintf(c->f, "<path class=\"axis\" d=\"M%.1f %.1fh%.1f\"/>\n", c->left, c->root || c->y0 < 0 ? chart_y(c, 0) : c->top + c->height, c->width);
    fprintf(c->f, "<text class=\"ax\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", c->left + c->width / 2, c->top + c->height + 38, x_title);
    fprintf(c->f, "<text class=\"ax\" transform=\"translate(13 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", c->top + c->height / 2, y_title);
}
static inline void chart_line(const chart *c, const double *x, const double *y, int n, int series, const char *classes)
{
    int i, any = 0;
    fprintf(c->f, "<path class=\"line s%d %s\" d=\"", series, classes);
    for (i = 0; i < n; i++) if (chart_has(c, x[i], y[i])) fprintf(c->f, "%c%.1f %.1f", any++ == 0 ? 'M' : 'L', chart_x(c, x[i]), chart_y(c, y[i]));
    fputs("\"/>\n", c->f);
}
static inline void chart_dot(const chart *c, double x, double y, int series, const char *classes, double radius, const char *title)
{
    if (chart_has(c, x, y))
        fprintf(c->f, "<circle class=\"%s s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"><title>%s</title></circle>\n", classes, series, chart_x(c, x), chart_y(c, y), radius, title);
}
static inline void chart_bar(const chart *c, double from, double to, double y, int series, const char *title) /* from 0 to y */
{
    const double a = chart_y(c, 0), b = chart_y(c, y > c->y1 ? c->y1 : y < c->y0 ? c->y0 : y);
    fprintf(c->f, "<rect class=\"bar s%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"1.5\"><title>%s</title></rect>\n", series, chart_x(c, from),
            a < b ? a : b, chart_x(c, to) - chart_x(c, from), fmax(fabs(a - b), .8), title);
}
static inline void chart_end(const chart *c) { fputs("</svg>\n", c->f); }

static inline void html_keys(FILE *f, const char *const *names, const int *series, int n)
{
    int i;
    fputs("<div class=\"keys\">", f);
    for (i = 0; i < n; i++) fprintf(f, "<span class=\"s%d\"><i></i>%s</span>", series[i], names[i]);
    fputs("</div>\n", f);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static inline void html_table(const report *r, FILE *f, int t)
{
    char cell[64];
    int i, k, c;
    fputs("<div class=\"scroll\"><table><tr>", f);
    for (i = 0; (c = r->tables[t].columns[i]) >= 0; i++) fprintf(f, "<th%s>%s</th>", c < r->n_texts ? " class=\"t\"" : "", r->columns[c].title);
    fputs("</tr>\n", f);
    for (k = 0; k < r->n; k++) {
        if (r->records[k].table != t) continue;
        fputs("<tr>", f);
        for (i = 0; (c = r->tables[t].columns[i]) >= 0; i++) {
            report_cell(r, &r->records[k], c, 0, cell, sizeof cell);
            fprintf(f, "<td%s>%s</td>", c < r->n_texts ? " class=\"t\"" : "", cell);
        }
        fputs("</tr>\n", f);
    }
    fputs("</table></div>\n", f);
}

#endif /* LTX_HTML_CHART_H */
