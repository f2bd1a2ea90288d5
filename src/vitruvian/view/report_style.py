"""Style sheet of the report, for light and dark screens, wide and narrow, and for paper."""

STYLE = """
:root{--page:#fafaf9;--card:#fff;--ink:#1c1d1f;--soft:#63666b;--line:#e3e3e0;--accent:#2f6f9f;
--good:#1d7a46;--good-back:#e2f3e8;--fair:#8a6100;--fair-back:#fbf0d3;--bad:#b3261e;--bad-back:#fbe5e3}
@media (prefers-color-scheme:dark){:root{--page:#141517;--card:#1d1f22;--ink:#ececea;--soft:#a0a3a8;--line:#33363a;
--accent:#86bce6;--good:#7fd6a0;--good-back:#173425;--fair:#ecc567;--fair-back:#382d10;--bad:#ff9a91;--bad-back:#431d1a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:40px 24px 64px}
header h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;font-weight:650}
header p{margin:0;color:var(--soft);font-size:17px}
h2{font-size:19px;margin:0 0 4px;font-weight:620;overflow-wrap:anywhere}
section{margin-top:36px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;margin:24px 0 0;
background:var(--line);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.facts div{background:var(--card);padding:12px 16px}
.facts dt{color:var(--soft);font-size:13px}
.facts dd{margin:0;font-size:18px;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.note{border-left:3px solid var(--accent);padding:2px 0 2px 14px;margin:20px 0 0;max-width:80ch}
.failures{border:1px solid var(--bad);background:var(--bad-back);border-radius:10px;padding:16px 20px}
.failures ul{margin:6px 0 0;padding-left:20px}
.failures li{overflow-wrap:anywhere}
.hint{color:var(--soft)}
.sub{margin:0 0 12px;color:var(--soft)}
.views{display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start}
figure{margin:0;flex:1 1 260px;max-width:520px;background:var(--card);border:1px solid var(--line);border-radius:10px;
overflow:hidden}
figure img{display:block;width:100%;height:auto}
figcaption{padding:8px 12px;font-size:14px;color:var(--soft);border-top:1px solid var(--line)}
a{color:var(--accent)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card);margin-top:10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:15px}
th,td{text-align:left;padding:9px 14px;white-space:nowrap}
td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:140px}
th{font-weight:600;color:var(--soft);font-size:13px;border-bottom:1px solid var(--line)}
tbody tr+tr td{border-top:1px solid var(--line)}
.number{text-align:right}
.badge{display:inline-block;padding:1px 10px;border-radius:99px;font-size:13px;font-weight:600}
.badge.good{color:var(--good);background:var(--good-back)}
.badge.fair{color:var(--fair);background:var(--fair-back)}
.badge.bad{color:var(--bad);background:var(--bad-back)}
.reading{display:grid;grid-template-columns:minmax(120px,max-content) 1fr;gap:6px 20px;margin:10px 0 0;max-width:92ch}
.reading dt{font-weight:600}
.reading dd{margin:0;color:var(--soft)}
details{border:1px solid var(--line);border-radius:10px;background:var(--card);padding:10px 16px}
summary{cursor:pointer;font-weight:600}
pre{overflow-x:auto;font-size:13px;line-height:1.45}
footer{margin-top:40px;color:var(--soft);font-size:14px}
@media (max-width:640px){main{padding:24px 16px 48px}.reading{grid-template-columns:1fr;gap:0}
.reading dd{margin-bottom:10px}}
@media print{body{background:#fff}figure,section{break-inside:avoid}}
"""
