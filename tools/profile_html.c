/* A profile as one page that needs nothing else: a roofline, where each step is a point, and the steps with bars of
   their times. XHTML, so that any XML parser reads it. */
#include "tools/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_text(FILE *out, const char *text) {
  for (; *text; text++) switch (*text) {
    case '<': fputs("&lt;", out); break;
    case '>': fputs("&gt;", out); break;
    case '&': fputs("&amp;", out); break;
    case '"': fputs("&quot;", out); break;
    default: fputc(*text, out);
    }
}

static void put_nodes(FILE *out, const step_profile *s) {
  for (int i = 0; i < s->nodes.count; i++) {
    if (i) fputs(", ", out);
    put_text(out, s->nodes.items[i].node);
  }
}

/* How near a step is to what the machine could do: a colour class. */
static const char *class_of(const step_profile *s) {
  double roof = step_roof(s);
  return roof >= 0.8 ? "q4" : roof >= 0.6 ? "q3" : roof >= 0.4 ? "q2" : roof >= 0.2 ? "q1" : "q0";
}

static const char style[] =
    ":root{--bg:#fff;--fg:#1c2430;--soft:#667085;--line:#e4e7ec;--q0:#c2410c;--q1:#ea8a2e;--q2:#d9b310;--q3:#5aa05a;--"
    "q4:#0f766e}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--bg:#11161d;--fg:#e6e9ee;--soft:#98a2b3;--line:#2a323d;--q0:#f2784b;--q1:#"
    "f0a04b;--q2:#e3c64a;--q3:#7cc07c;--q4:#3cb8aa}}\n"
    "body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 "
    "1rem;background:var(--bg);color:var(--fg)}\n"
    "h1{font-size:1.35rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}p{color:var(--soft);margin:.25rem "
    "0}b{color:var(--fg);font-weight:600}\n"
    "svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg "
    ".roof{stroke:var(--fg);stroke-width:1.5;fill:none}svg .roof-name{fill:var(--fg)}\n"
    "svg .grid{stroke:var(--line)}svg circle{fill-opacity:.75;stroke:var(--bg)}svg "
    "circle:hover{fill-opacity:1;stroke:var(--fg)}\n"
    ".q0{fill:var(--q0)}.q1{fill:var(--q1)}.q2{fill:var(--q2)}.q3{fill:var(--q3)}.q4{fill:var(--q4)}.least{fill:var(--"
    "fg);fill-opacity:.28}\n"
    "table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:600;color:var(--soft);border-bottom:1px "
    "solid var(--line);position:sticky;top:0;background:var(--bg)}\n"
    "td,th{padding:.2rem .6rem .2rem "
    "0;vertical-align:top;white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "td.w{white-space:normal;overflow-wrap:anywhere}td.w span{color:var(--soft)}tr:target td{background:var(--line)}td "
    "svg{display:block;margin-top:.25rem}\n";

/* ---- roofline --------------------------------------------------------------------------------------------- */

enum { WIDTH = 1140, HEIGHT = 460, LEFT = 64, RIGHT = 16, TOP = 18, BOTTOM = 44 };

/* Logarithmic axes: operations a byte, GFLOP/s. */
typedef struct chart {
  FILE *out;
  const profile *p;
  double x0, x1, y0, y1; /* exponents of ten */
} chart;

static double x_of(const chart *c, double intensity) {
  return LEFT + (log10(intensity) - c->x0) / (c->x1 - c->x0) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const chart *c, double gflops) {
  return HEIGHT - BOTTOM - (log10(gflops) - c->y0) / (c->y1 - c->y0) * (HEIGHT - TOP - BOTTOM);
}

static double intensity_of(const step_profile *s) { return s->flops / (s->weight_bytes + s->value_bytes); }

/* Steps that only move data have no place on the roofline. */
static bool is_shown(const step_profile *s) {
  return s->flops > 0 && s->weight_bytes + s->value_bytes > 0 && s->us > 0;
}

static void set_axes(chart *c) {
  c->x0 = -1;
  c->x1 = 2;
  c->y1 = log10(c->p->machine.gflops);
  c->y0 = ceil(c->y1) - 3;
  for (int i = 0; i < c->p->nsteps; i++) {
    const step_profile *s = &c->p->steps[i];
    if (!is_shown(s)) continue;
    double x = log10(intensity_of(s)), y = log10(step_gflops(s));
    if (x < c->x0) c->x0 = floor(x);
    if (x > c->x1) c->x1 = ceil(x);
    if (y < c->y0) c->y0 = floor(y);
    if (y > c->y1) c->y1 = y;
  }
  c->y1 += 0.15;
}

/* Lines at 1, 2 and 5 times the powers of ten, numbers where there is room. */
static double next_tick(double tick) {
  double lead = tick / pow(10, floor(log10(tick) + 1e-9));
  return lead < 1.5 ? tick * 2 : lead < 4 ? tick * 2.5 : tick * 2;
}

static void put_grid(const chart *c) {
  for (double tick = pow(10, c->x0); tick <= pow(10, c->x1) * 1.001; tick = next_tick(tick))
    fprintf(c->out,
            "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/><text x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"middle\">%g</text>\n",
            x_of(c, tick), TOP, x_of(c, tick), HEIGHT - BOTTOM, x_of(c, tick), HEIGHT - BOTTOM + 18, tick);
  for (double tick = pow(10, c->y0); tick <= pow(10, c->y1); tick = next_tick(tick))
    fprintf(c->out,
            "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%g</text>\n",
            LEFT, y_of(c, tick), WIDTH - RIGHT, y_of(c, tick), LEFT - 8, y_of(c, tick) + 4, tick);
  fprintf(c->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">operations a byte</text>\n",
          (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
  fprintf(c->out, "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>\n",
          (TOP + HEIGHT - BOTTOM) / 2);
}

/* The slope of one level of memory, from the edge of the chart to the peak; its name stands so far along it. */
static void put_slope(const chart *c, const struct machine_level *level, int name_at) {
  double left = pow(10, c->x0), bottom = pow(10, c->y0), peak = c->p->machine.gflops;
  double from = left * level->gb_per_s > bottom ? left : bottom / level->gb_per_s, to = peak / level->gb_per_s;
  double x1 = x_of(c, from), y1 = y_of(c, from * level->gb_per_s), x2 = x_of(c, to), y2 = y_of(c, peak);
  double angle = atan2(y2 - y1, x2 - x1) * 180 / 3.14159265358979;
  fprintf(c->out, "<line class=\"roof\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x1, y1, x2, y2);
  fprintf(c->out,
          "<text class=\"roof-name\" transform=\"translate(%.1f %.1f) rotate(%.1f)\" dy=\"-4\" dx=\"%d\">%s %.0f "
          "GB/s</text>\n",
          x1, y1, angle, name_at, level->name, level->gb_per_s);
}

static void put_roofs(const chart *c) {
  const machine *m = &c->p->machine;
  double fastest = 0;
  for (int i = 0; i < MACHINE_LEVELS; i++) {
    if (m->levels[i].gb_per_s <= 0) continue;
    put_slope(c, &m->levels[i], i % 2 ? 90 : 8);
    if (m->levels[i].gb_per_s > fastest) fastest = m->levels[i].gb_per_s;
  }
  double x = x_of(c, m->gflops / fastest), y = y_of(c, m->gflops);
  fprintf(c->out, "<line class=\"roof\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", x, y, WIDTH - RIGHT, y);
  fprintf(c->out, "<text class=\"roof-name\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f GFLOP/s</text>\n",
          WIDTH - RIGHT, y - 6, m->gflops);
}

/* Areas are times; the slowest come first, so that small ones lie on top. */
static void put_point(const chart *c, const step_profile *s) {
  double radius = 2.5 + 26 * sqrt(step_share(c->p, s));
  fprintf(c->out, "<a href=\"#s%d\"><circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>",
          (int)(s - c->p->steps), class_of(s), x_of(c, intensity_of(s)), y_of(c, step_gflops(s)), radius);
  put_text(c->out, s->kernel);
  fputs("\n", c->out);
  put_nodes(c->out, s);
  fprintf(c->out, "\n%.2f us, %.1f %% of the time\n%.2f GFLOP/s, %.2f GB/s, %.0f %% of the roof</title></circle></a>\n",
          s->us, 100 * step_share(c->p, s), step_gflops(s), step_gb_per_s(s), 100 * step_roof(s));
}

static void put_roofline(FILE *out, const profile *p) {
  chart c = {.out = out, .p = p};
  set_axes(&c);
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"100%%\" role=\"img\" "
          "aria-label=\"roofline\">\n",
          WIDTH, HEIGHT);
  put_grid(&c);
  put_roofs(&c);
  for (int i = 0; i < p->nsteps; i++)
    if (is_shown(p->order[i])) put_point(&c, p->order[i]);
  fputs("</svg>\n", out);
}

/* ---- the run in program order ----------------------------------------------------------------------------- */

static void put_timeline(FILE *out, const profile *p) {
  enum { BAR = 40 };
  double at = 0;
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"100%%\" role=\"img\" "
          "aria-label=\"steps in order\">\n",
          WIDTH, BAR);
  for (int i = 0; i < p->nsteps; i++) {
    const step_profile *s = &p->steps[i];
    double width = step_share(p, s) * WIDTH;
    fprintf(out,
            "<a href=\"#s%d\"><rect class=\"%s\" x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"%d\" stroke=\"var(--bg)\" "
            "stroke-width=\".5\"><title>",
            i, class_of(s), at, width, BAR);
    put_text(out, s->kernel);
    fprintf(out, "\n%.2f us</title></rect></a>\n", s->us);
    at += width;
  }
  fputs("</svg>\n", out);
}

/* ---- table ------------------------------------------------------------------------------------------------ */

static void put_bar(FILE *out, const profile *p, const step_profile *s) {
  enum { LENGTH = 220, THICK = 12 };
  double longest = p->order[0]->us > 0 ? p->order[0]->us : 1, width = s->us / longest * LENGTH,
         least = s->limit_us / longest * LENGTH;
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\"><rect class=\"%s\" width=\"%.2f\" "
          "height=\"%d\"/>"
          "<rect class=\"least\" width=\"%.2f\" height=\"%d\"/></svg>",
          LENGTH, THICK, class_of(s), width, THICK, least < width ? least : width, THICK);
}

static void put_row(FILE *out, const profile *p, const step_profile *s) {
  fprintf(out, "<tr id=\"s%d\"><td class=\"n\">%d</td><td class=\"n\">%.2f</td><td class=\"n\">%.1f</td><td>",
          (int)(s - p->steps), (int)(s - p->steps), s->us, 100 * step_share(p, s));
  put_bar(out, p, s);
  fprintf(out, "</td><td class=\"n\">%.1f</td><td class=\"n\">%.1f</td><td class=\"n\">%.0f</td>", step_gflops(s),
          step_gb_per_s(s), 100 * step_roof(s));
  if (p->threads > 1) fprintf(out, "<td class=\"n\">%.0f</td>", 100 * s->busy);
  fputs("<td class=\"w\">", out);
  put_text(out, s->kernel);
  fputs("<br/><span>", out);
  put_nodes(out, s);
  fputs("</span></td></tr>\n", out);
}

static void put_table(FILE *out, const profile *p) {
  fputs("<table><thead><tr><th class=\"n\">step</th><th class=\"n\">us</th><th class=\"n\">%</th><th>time; dark: the "
        "least</th>"
        "<th class=\"n\">GFLOP/s</th><th class=\"n\">GB/s</th><th class=\"n\">roof %</th>",
        out);
  if (p->threads > 1) fputs("<th class=\"n\">busy %</th>", out);
  fputs("<th>kernel, ONNX nodes</th></tr></thead><tbody>\n", out);
  for (int i = 0; i < p->nsteps; i++) put_row(out, p, p->order[i]);
  fputs("</tbody></table>\n", out);
}

/* ---- page ------------------------------------------------------------------------------------------------- */

static void put_head(FILE *out, const profile *p, const bench_result *r) {
  const char *slash = strrchr(r->model, '/'), *name = slash ? slash + 1 : r->model;
  double gflops = r->gflop / (r->median_ms * 1e-3);
  fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta "
        "charset=\"utf-8\"/><title>",
        out);
  put_text(out, name);
  fprintf(out, "</title><meta name=\"viewport\" content=\"width=device-width\"/><style>\n%s</style></head><body>\n<h1>",
          style);
  put_text(out, name);
  fprintf(out,
          "</h1>\n<p><b>%.3f ms</b> (median of %d runs, %d thread%s; minimum %.3f), <b>%.3f GFLOP</b>, <b>%.1f "
          "GFLOP/s</b>: %.0f %% of this machine's peak.</p>\n",
          r->median_ms, r->runs, r->threads, r->threads > 1 ? "s" : "", r->min_ms, r->gflop, gflops,
          100 * gflops / p->machine.gflops);
}

static void put_legend(FILE *out) {
  static const char *const names[] = {"under 20 %", "20", "40", "60", "80 % of the roof and more"};
  fputs("<p><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"460\" height=\"14\">", out);
  for (int i = 0, x = 0; i < 5; i++) {
    fprintf(out, "<rect class=\"q%d\" x=\"%d\" y=\"2\" width=\"11\" height=\"11\"/><text x=\"%d\" y=\"12\">%s</text>",
            i, x, x + 16, names[i]);
    x += i == 0 ? 96 : 52;
  }
  fputs("</svg></p>\n", out);
}

static void put_page(FILE *out, const profile *p, const bench_result *r) {
  put_head(out, p, r);
  fputs("<h2>Roofline</h2>\n<p>A point is a step of the program, its area its time. Lines: what this machine does at "
        "most, measured just now.</p>\n",
        out);
  put_legend(out);
  put_roofline(out, p);
  fputs("<h2>In program order</h2>\n", out);
  put_timeline(out, p);
  fputs("<h2>Steps, slowest first</h2>\n<p>The least: operations at the peak, or weights and values at the speed of "
        "the memory that holds them, whichever takes longer. "
        "A convolution in Winograd's form counts as the convolution, so it may be above its roof.</p>\n",
        out);
  put_table(out, p);
  fputs("</body></html>\n", out);
}

char *profile_html(const profile *p, const bench_result *r) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) return NULL;
  put_page(out, p, r);
  return fclose(out) == 0 ? text : NULL;
}
