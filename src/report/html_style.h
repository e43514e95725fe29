/* SPDX-License-Identifier: Apache-2.0 */
/* The style sheet of report.html. System colours by prefers-color-scheme, one column on a phone. */
#ifndef SK_HTML_STYLE_H
#define SK_HTML_STYLE_H

static const char page_style[] =
    ":root{color-scheme:light "
    "dark;--page:#fff;--ink:#1f2126;--muted:#5c6169;--line:#dfe1e5;--card:#f5f6f8;--accent:#0072b2;"
    "--warn:#b34700}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#1c1f24;--ink:#edeff2;--muted:#adb3bb;--line:#3a3f47;--card:#"
    "262a31;"
    "--accent:#56b4e9;--warn:#f29e1f}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,'DejaVu Sans',sans-serif}\n"
    "main{max-width:66rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 1rem}h2{font-size:1.25rem;margin:2.5rem 0 .75rem}\n"
    "h3{font-size:1.05rem;margin:1.75rem 0 .6rem}\n"
    "p{max-width:46rem}a{color:var(--accent)}.muted{color:var(--muted)}.path{overflow-wrap:anywhere}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem}\n"
    ".card{background:var(--card);border-radius:.6rem;padding:.8rem 1rem}\n"
    ".card b{display:block;font-size:1.55rem;line-height:1.25;font-variant-numeric:tabular-nums}\n"
    ".card span{color:var(--muted);font-size:.92rem}\n"
    ".scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.4rem .55rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "th{color:var(--muted);font-weight:600;font-size:.92rem}\n"
    "th:first-child,td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:9rem}\n"
    "table.facts th{width:12rem;vertical-align:top;min-width:0}table.facts td{text-align:left;white-space:normal;"
    "overflow-wrap:anywhere}\n"
    "@media(max-width:40rem){table.facts th{width:7.5rem}th,td{padding:.4rem .45rem}}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr));gap:1rem}\n"
    "figure{margin:0}figure img{display:block;width:100%;height:auto;border-radius:.4rem}\n"
    ".wide{max-width:46rem}figcaption{color:var(--muted);font-size:.92rem;margin-top:.35rem}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,13rem),1fr));gap:1rem}\n"
    ".gallery figure{background:var(--card);border-radius:.6rem;overflow:hidden}\n"
    ".gallery img{width:100%;height:10.5rem;object-fit:contain;background:#0003;border-radius:0}\n"
    ".gallery .none{height:10.5rem;display:grid;place-items:center;color:var(--muted)}\n"
    ".gallery figcaption{padding:.5rem .75rem .75rem;color:var(--ink);overflow-wrap:anywhere;margin:0}\n"
    ".pairs{grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr))}.pairs img{height:auto}\n"
    ".gallery b{color:var(--warn)}details summary{cursor:pointer;margin:2.5rem 0 "
    ".75rem;font-size:1.25rem;font-weight:700}\n"
    "footer{margin:3rem 0 1rem;color:var(--muted);font-size:.92rem}\n"
    "@media print{.gallery figure,.card{break-inside:avoid}}\n";

#endif
