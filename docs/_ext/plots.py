"""Interactive plots of the figures in docs/figures, for the page of the performance.

The data are what `vae-fast bench` writes (bench.json) and what `make bench-history` appends to
(history.jsonl). plotly's script is copied out of its package: a reader's browser asks nobody else.
"""

import json
from pathlib import Path

import plotly.graph_objects as go
from docutils import nodes
from plotly.offline import get_plotlyjs
from sphinx.util.docutils import SphinxDirective

FIGURES = Path(__file__).parents[1] / "figures"
PEERS = {"eager": "eager", "compile": "torch.compile", "jax": "JAX", "vae_fast": "vae_fast"}
BUSY = 0.08  # a row in which others used more of the machine is no figure
# One per contestant or size; legible on a light and on a dark page.
COLOURS = ["#8a8f98", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2"]


def _bench() -> dict:
    return json.loads((FIGURES / "bench.json").read_text())


def _quiet(results: list[dict], *kinds: str) -> list[dict]:
    return [r for r in results if r["kind"] in kinds and (r["used_by_others"] or 0) <= BUSY]


def _dots(results: list[dict], scale: float, unit: str) -> go.Figure:
    """A dot for each contestant of each row; the axis is logarithmic, and so has no bars."""
    rows = [f"{r['name']}<br>{r['size']}" for r in results]
    figure = go.Figure()
    for (peer, title), colour in zip(PEERS.items(), COLOURS, strict=False):
        times = [r["seconds"].get(peer) for r in results]
        if any(times):
            figure.add_scatter(
                y=rows,
                x=[None if time is None else time * scale for time in times],
                name=title,
                mode="markers",
                marker={"color": colour, "size": 12},
                hovertemplate=f"%{{y}}<br>{title}: %{{x:.3g}} {unit}<extra></extra>",
            )
    figure.update_layout(height=140 + 40 * len(rows))
    figure.update_xaxes(type="log", title=f"{unit}, forward and backward")
    figure.update_yaxes(autorange="reversed")
    return figure


def kernels() -> go.Figure:
    """Each function, as training calls it."""
    return _dots(_quiet(_bench()["results"], "kernel"), 1e3, "ms")


def small() -> go.Figure:
    """What a call costs."""
    return _dots(_quiet(_bench()["results"], "small"), 1e6, "us")


def steps() -> go.Figure:
    """Training steps and last layers."""
    return _dots(_quiet(_bench()["results"], "step", "epoch"), 1e3, "ms")


def growth() -> go.Figure:
    """Time for an element, over how many there are."""
    figure = go.Figure()
    curves: dict[str, list[tuple[int, float]]] = {}
    for point in _bench()["growth"]:
        if point["axis"] == "elements" and point["result"] is not None:
            for peer, seconds in point["result"]["seconds"].items():
                threads = "1 thread" if point["threads"] == 1 else f"{point['threads']} threads"
                name = f"{point['name']}, {PEERS[peer]}, {threads}"
                curves.setdefault(name, []).append((point["at"], seconds))
    for i, (name, points) in enumerate(curves.items()):
        figure.add_scatter(
            x=[at for at, _ in points],
            y=[seconds / at * 1e9 for at, seconds in points],
            name=name,
            line_color=COLOURS[i % len(COLOURS)],
            line_dash="dot" if name.endswith("1 thread") else "solid",
            mode="lines+markers",
        )
    figure.update_layout(height=480)
    figure.update_xaxes(type="log", title="elements")
    figure.update_yaxes(type="log", title="ns per element")
    return figure


def history() -> go.Figure:
    """How many times as fast as eager each function was, by commit."""
    entries = [json.loads(line) for line in (FIGURES / "history.jsonl").read_text().splitlines()]
    entries.sort(key=lambda entry: entry["date"])
    rows = list(dict.fromkeys(row for entry in entries for row in entry["milliseconds"]))
    commits = [f"{entry['commit'][:7]}<br>{entry['date'][:10]}" for entry in entries]
    figure = go.Figure()
    for i, row in enumerate(rows):
        pairs = [entry["milliseconds"].get(row) for entry in entries]
        figure.add_scatter(
            x=commits,
            y=[None if pair is None else pair["eager"] / pair["vae_fast"] for pair in pairs],
            name=row,
            mode="lines+markers",
            connectgaps=True,
            line_color=COLOURS[i % len(COLOURS)],
            line_dash=("solid", "dot", "dash")[i // len(COLOURS) % 3],
            customdata=[
                ""
                if pair is None
                else f"{pair['vae_fast']:.3g} ms, eager {pair['eager']:.3g}<br>{entry['machine']}"
                for entry, pair in zip(entries, pairs, strict=True)
            ],
            hovertemplate=f"{row}<br>%{{y:.2f}} x eager<br>%{{customdata}}<extra></extra>",
        )
    figure.update_layout(height=760)
    figure.update_yaxes(type="log", title="times as fast as eager PyTorch")
    return figure


PLOTS = {plot.__name__: plot for plot in (kernels, small, steps, growth, history)}


class Plot(SphinxDirective):
    """`{plot} NAME`: one of PLOTS."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The plot, as HTML."""
        self.env.note_dependency(str(FIGURES / "bench.json"))
        self.env.note_dependency(str(FIGURES / "history.jsonl"))
        figure = PLOTS[self.arguments[0]]()
        figure.update_layout(
            template="none",
            margin={"l": 10, "r": 10, "t": 10, "b": 10},
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": "#7a7f87", "size": 12},
        )
        figure.update_xaxes(automargin=True, gridcolor="rgba(128,128,128,.25)")
        figure.update_yaxes(automargin=True, gridcolor="rgba(128,128,128,.25)")
        html = figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"plot-{self.arguments[0]}",
            config={"responsive": True, "displaylogo": False},
        )
        return [nodes.raw("", f'<div class="plot">{html}</div>', format="html")]


def _script(app, pagename, _template, context, doctree) -> None:
    """Plotly's script, on the pages that have a plot."""
    if doctree is not None and any(
        'class="plot"' in raw.astext() for raw in doctree.findall(nodes.raw)
    ):
        app.add_js_file("plotly.min.js")
        # They are drawn before what stands beside them is there, and takes its share of the width.
        resize = "addEventListener('load', () => dispatchEvent(new Event('resize')))"
        app.add_js_file(None, body=resize)


def _copy(app) -> None:
    if app.builder.format == "html":
        static = Path(app.outdir) / "_static"
        static.mkdir(parents=True, exist_ok=True)
        (static / "plotly.min.js").write_text(get_plotlyjs())


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_directive("plot", Plot)
    app.connect("html-page-context", _script)
    app.connect("builder-inited", _copy)
    return {"parallel_read_safe": True}
