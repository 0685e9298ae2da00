"""report.html: its numbers, what it says where files are missing, and what a browser
makes of it.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.film import open_video
from reconverge.envs.render.opengl import RenderError
from reconverge.policy import train
from reconverge.policy.continual.loop import Probe, Progress
from reconverge.policy.reports import illustrate
from reconverge.policy.reports.page import write_report
from reconverge.policy.reports.run import success_curves
from reconverge.policy.runs.execution import FinishedRun, reporting
from reconverge.policy.runs.summary import ProbeCurve, read_summary, summarize
from reconverge.tools import report as tool
from support import ROOT
from support.simulators import use_simulators
from support.summaries import FACTS, SECONDS
from support.tiny import make_policy
from support.tiny_run import call, options, shorten

NAMES = ["lift", "can", "square"]


def successes(n):
    return [True] * n + [False] * (10 - n)


def make_summary(**changes):
    """lift: 100, 50, 75 %; can: 60, 50 %; square: 100 %."""
    rows = [
        [successes(10)],
        [successes(5), successes(6)],
        [successes(8), successes(5), successes(10)],
    ]
    probes = [
        Probe(later, task=0, update=update, successes=[True] * n + [False] * (4 - n))
        for later, update, n in ((1, 2, 1), (1, 10, 4), (2, 2, 0), (2, 10, 2))
    ]
    measured = summarize(Progress(3, 0, rows, probes), NAMES)
    return {**FACTS, **measured, "seconds": SECONDS, "peak_memory_mib": 100, **changes}


def quality(task):
    shares = [0.2, 0.5, 0.3]
    entry = {
        "name": "object[0]",
        "distance": 0.25,
        "edges": [0, 1, 2, 3],
        "real": shares,
        "generated": shares[::-1],
    }
    quantiles = np.linspace(0, 1, 51).tolist()
    nearest = {"quantile": quantiles, "real": quantiles, "generated": [2 * q for q in quantiles]}
    return {"task": task, "windows": 10, "ratio": 2.0, "nearest": nearest, "marginals": [entry]}


def make_lines():
    for task in range(3):
        for update in (10, 20):
            where = {"task": NAMES[task], "task_index": task, "update": update}
            yield {
                "kind": "update",
                **where,
                "loss": 0.5 / update,
                "distillation": 0.1,
                "penalty": 0.0,
            }
    yield {
        "kind": "probe",
        "task": "can",
        "task_index": 1,
        "update": 2,
        "evaluated": "lift",
        "success": 0.25,
    }
    yield {
        "kind": "generator",
        "task": "lift",
        "task_index": 0,
        "update": 20,
        "generator_update": 10,
        "loss": 0.3,
    }


def make_run(folder, **changes):
    """A finished run's folder with all that the report shows."""
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(make_summary(**changes)))
    (folder / "config.yaml").write_text(
        "env: [lift, can, square]\nevaluation: {probe_rollouts: 4}\n"
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in make_lines()))
    (folder / "replay_quality.json").write_text(json.dumps([quality("lift"), quality("can")]))
    for i, task in enumerate(NAMES):
        with open_video(folder / "videos" / f"{task}.mp4", width=64, height=48) as show:
            for frame in range(30):
                show(np.full((48, 64, 3), 60 * i + frame, np.uint8))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "mine")
    write_report([folder], folder / "report.html")
    return folder


def test_write_report_holds_the_numbers(run):
    page = (run / "report.html").read_text()
    assert "<strong>76.7 %</strong>" in page  # 80, 50 and 100 %
    assert "<strong>10.0 points</strong>" in page  # forgetting: 20, 10 and 0 points
    assert "80 (49 to 94)" in page  # Wilson's interval of 8 of 10
    assert "95 % interval 59.1 to 88.2" in page  # of 23 of 30
    assert "&gt; 10" in page  # lift never came back while square was learned
    assert (
        "of its best: lift while learning square, after 2 updates, of 4 probe episodes" in page
    )  # lift at the first probe of that transition
    assert "1,234,567 parameters" in page
    assert "probe_rollouts: 4" in page
    assert page.count("<figure>") == 3 + 2 + 3  # success, losses, nearest; marginals; videos
    assert page.count('role="img"') == 2 * 5
    assert not re.search(">[^<]*mathdefault", page)  # powers of ten are drawn, not TeX's text
    assert 'class="missing"' not in page
    assert not list(run.glob("*.partial"))


def test_write_report_needs_no_network(run):
    page = (run / "report.html").read_text()
    linked = re.findall(r'(?:src|href|poster)="(.{0,40})', page)
    assert linked
    assert all(link.startswith(("data:", "#")) for link in linked)
    assert "url(#" in page
    assert not re.findall(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_success_curves_hold_probes_and_evaluations_apart():
    """The line goes through the first two of four episodes, after every task too."""
    probes = [ProbeCurve("a", "b", 2, 1.0, [2, 20], [0.0, 0.5])]
    curves = success_curves(["a", "b"], [[0.5, None], [0.75, 1.0]], 4, probes, 20)
    a, b = curves["a"], curves["b"]
    assert [point[:4] for point in a.line] == [(0, 20, 20, 1.0), (1, 2, 20, 0.0), (1, 20, 20, 0.5)]
    assert [point[:4] for point in a.evaluations] == [(0, 20, 20, 0.5), (1, 20, 20, 0.75)]
    assert (a.line_episodes, a.episodes) == (2, 4)
    # Wilson's interval of 1 of 2, and of 3 of 4.
    assert (a.line[2].low, a.line[2].high) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert a.evaluations[1][4:] == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert b.line == b.evaluations
    assert (b.line_episodes, b.episodes) == (4, 4)


def test_main_reports_a_summary_alone_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    path = tmp_path / "some_run.json"
    path.write_text(json.dumps(make_summary()))
    monkeypatch.chdir(tmp_path)
    assert call(tool.main, [path], monkeypatch) == 0
    assert "comparison/report.html" in capsys.readouterr().out
    page = Path("comparison/report.html").read_text()
    assert "<strong>76.7 %</strong>" in page
    assert page.count('class="missing"') == 3  # losses, replay, videos
    assert "No metrics.jsonl" in page


RESULTS = ROOT / "benchmarks" / "results"
COMMITTED = sorted(
    path for path in RESULTS.rglob("*.json") if '"average_success_ci95"' in path.read_text()
)


def test_read_summary_reads_every_committed_result():
    assert len(COMMITTED) > 100
    for path in COMMITTED:
        read, written = read_summary(path).to_json(), json.loads(path.read_text())
        assert {name: read[name] for name in written} == written
        assert not any(value for name, value in read.items() if name not in written)


def test_write_report_of_a_committed_result(tmp_path):
    source = RESULTS / "lift_can_square_finetune_seed0.json"
    write_report([source], tmp_path / "report.html")
    expected = json.loads(source.read_text())["average_success"]
    assert f"<strong>{100 * expected:.1f} %</strong>" in (tmp_path / "report.html").read_text()


def test_write_report_never_takes_a_file_for_markup(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(make_summary(method="<script>alert(1)</script>", command="a & b")))
    write_report([path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a &amp; b" in page


def test_write_report_says_what_changed_on_the_way(tmp_path):
    options = {"updates_per_task": 100, "versions.torch": "2.2"}
    change = {"task": 1, "update": 5, "options": options, "command": "reconverge train resume=<x>"}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(make_summary(changes=[change])))
    write_report([path], tmp_path / "page.html")
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert "From update 5 of can on, by <code>reconverge train resume=&lt;x&gt;</code>: " in page
    assert "updates_per_task=100; versions.torch=2.2. The pictures above take this number" in page


def test_write_report_compares_several_runs(tmp_path, run):
    runs = [run, make_run(tmp_path / "other", seed=1)]
    runs.append(make_run(tmp_path / "third", method="finetune", replay="none", fisher="none"))
    write_report(runs, tmp_path / "out" / "report.html")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3 runs of lift, can, square" in page
    assert "<p>10 rollouts a task.</p>" in page
    assert "whose memory is not recorded, or that keep all data as a reference" in page
    assert "Student" in page
    assert "to trust region, rank-1 Fisher" in page
    assert page.count('role="img"') == 2 * 3
    assert "&#34;finetune&#34;" in page  # in the table of options


def test_write_report_of_seeds_of_one_method_has_means_and_no_differences(tmp_path, run):
    write_report([run, make_run(tmp_path / "other", seed=1)], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Means over seeds" in page
    assert "Differences of average success" not in page


def test_write_report_of_different_settings_has_no_means(tmp_path, run):
    changes = {"updates_per_task": 30, "evaluation_seeds": "selection"}
    other = make_run(tmp_path / "other", **changes)
    write_report([run, other], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert (
        "No means over seeds and no differences: runs differ in updates_per_task: 20 and 30" in page
    )
    chosen = "10 rollouts a task (selection episodes: settings were chosen on them)"
    assert f"<p>10 rollouts a task; {chosen}.</p>" in page
    assert "Student" not in page


def without_success():
    return json.dumps({k: v for k, v in make_summary().items() if k != "success"})


UPDATE = {"kind": "update", "task_index": 0, "update": 1, "loss": "small"}
BAD = {
    "summary.json": (without_success(), "summary.json: lacks 'success'"),
    "metrics.jsonl": ('{"kind": ', "metrics.jsonl: line 1: is no JSON"),
    "metrics.jsonl of another program": ('{"loss": 1}', "metrics.jsonl: line 1: kind must be"),
    "metrics.jsonl with text for a number": (
        json.dumps(UPDATE),
        "metrics.jsonl: line 1: loss: must be a number, got 'small'",
    ),
    "replay_quality.json": ("[", "replay_quality.json: is no JSON"),
    "replay_quality.json of another program": (
        '[{"task": "lift", "windows": 1}]',
        "replay_quality.json: [0]: lacks 'ratio'",
    ),
    "replay_quality.json without marginals": (
        json.dumps([quality("lift") | {"marginals": []}]),
        "replay_quality.json: lists of lift differ in length",
    ),
    "videos/can.mp4": ("no film", "videos/can.mp4: cannot be read as a video"),
}


@pytest.mark.parametrize("name", BAD)
def test_main_names_a_damaged_file_in_one_line(tmp_path, run, monkeypatch, capsys, name):
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    (folder / name.split(" ")[0]).write_text(BAD[name][0])
    assert call(tool.main, [folder], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert BAD[name][1] in error
    assert not (folder / "report.html").exists()


def test_main_refuses_a_folder_without_a_run(tmp_path, monkeypatch, capsys):
    assert call(tool.main, [tmp_path], monkeypatch) == 2
    assert "no summary.json; give folders of finished runs" in capsys.readouterr().err


def test_a_run_ends_with_its_report(demonstrations, tmp_path, monkeypatch, simulator_of):
    """A whole run with rollouts of 20 steps."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    shorten(monkeypatch, 20, "lift", "can")
    monkeypatch.setattr(illustrate, "WIDTH", 64)
    monkeypatch.setattr(illustrate, "HEIGHT", 48)
    folder = tmp_path / "run"
    arguments = [option for option in options(demonstrations, folder) if option != "report=false"]
    assert call(train.main, arguments, monkeypatch) == 0
    assert {path.name for path in (folder / "videos").iterdir()} == {"lift.mp4", "can.mp4"}
    (entry,) = json.loads((folder / "replay_quality.json").read_text())
    assert (entry["task"], entry["windows"]) == ("lift", 2000)
    known = set(illustrate.entry_names(TASKS["lift"]))
    assert {marginal["name"] for marginal in entry["marginals"]} <= known
    assert len(known) == TASKS["lift"].observation_size + 7
    page = (folder / "report.html").read_text()
    assert "Recovery was not probed" in page
    assert page.count('src="data:video/mp4;base64,') == 2
    assert page.count('role="img"') == 2 * 4


def finished_run(folder):
    return FinishedRun(
        summary=read_summary(folder),
        tasks=[TASKS["lift"], TASKS["can"]],
        model_of=lambda task: make_policy(),
        generator=None,
        windows=[],
        film_seeds=range(1),
    )


def test_where_nothing_can_be_rendered_one_line_says_so(run, tmp_path, monkeypatch, capsys):
    def no_film(*arguments, **options):
        raise RenderError("no offscreen rendering without OpenGL: apt-get install libegl1")

    monkeypatch.setattr(illustrate, "film", no_film)
    illustrate.illustrate(tmp_path, finished_run(run))
    assert (
        capsys.readouterr().out
        == "no videos: no offscreen rendering without OpenGL: apt-get install libegl1\n"
    )
    assert not list(tmp_path.iterdir())


def test_films_that_an_interrupted_report_left_are_kept(run, tmp_path, monkeypatch):
    films = []
    monkeypatch.setattr(illustrate, "film", lambda _, path, *rest, **size: films.append(path.name))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "lift.mp4").touch()
    illustrate.illustrate(tmp_path, finished_run(run))
    assert films == ["can.mp4"]


def test_an_interrupted_report_says_how_to_go_on(capsys):
    with pytest.raises(KeyboardInterrupt), reporting(Path("runs/mine"), "train"):
        raise KeyboardInterrupt
    assert "for the report: reconverge train resume=runs/mine" in capsys.readouterr().out


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
    "--hide-scrollbars",
)
DECODE = """
const done = arguments[0];
const posters = [...document.querySelectorAll("video")].map((video) => {
  const picture = new Image();
  picture.src = video.poster;
  return picture.decode().then(() => picture.naturalWidth);
});
const films = [...document.querySelectorAll("video")].map((video) => new Promise((found) => {
  video.onerror = () => found(String(video.error.message));
  video.onseeked = () => found([video.videoWidth, Math.round(10 * video.duration) / 10]);
  video.currentTime = 1;
}));
Promise.all([...posters, ...films]).then(done, (error) => done([String(error)]));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Debian's Chromium, driven by selenium."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        chosen.add_argument(flag)
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(chosen, webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def shown(browser, run):
    """The browser, with the page of the run."""
    page = (run / "report.html").as_uri()
    browser.get(page)
    there = "return document.readyState == 'complete' && document.URL"
    selenium = pytest.importorskip("selenium.webdriver.support.wait")
    selenium.WebDriverWait(browser, 60).until(lambda b: b.execute_script(there) == page)
    yield browser
    assert browser.get_log("browser") == []


def column(browser, table, index):
    script = "return [...document.querySelectorAll('table')[arguments[0]].tBodies[0].rows].map(r => r.cells[arguments[1]].textContent)"  # noqa: E501
    return browser.execute_script(script, table, index)


def test_the_console_would_tell(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>nothing.at.all()</script>")
    browser.get(page.as_uri())
    assert "nothing is not defined" in browser.get_log("browser")[0]["message"]


def test_pictures_and_films_decode(shown):
    assert shown.execute_async_script(DECODE) == [64, 64, 64, [64, 1.5], [64, 1.5], [64, 1.5]]
    loaded = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))"
    assert shown.execute_script(f"return {loaded}.length") == 0


def test_tables_sort_by_number_both_ways(shown):
    assert column(shown, 0, 3) == ["-20", "-10", "0"]
    buttons = shown.find_elements("css selector", "table:first-of-type thead button")
    end = buttons[2]
    end.click()
    assert column(shown, 0, 0) == ["2 can", "1 lift", "3 square"]
    end.click()
    assert column(shown, 0, 0) == ["3 square", "1 lift", "2 can"]
    assert end.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    buttons[0].click()
    assert column(shown, 0, 0) == ["1 lift", "2 can", "3 square"]
    assert end.find_element("xpath", "..").get_attribute("aria-sort") is None


@pytest.mark.parametrize(("width", "shape"), [(400, "narrow"), (1400, "wide")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_phones_and_desks_in_light_and_dark(shown, width, shape, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert shown.execute_script("return document.documentElement.scrollWidth") == width
    visible = "return [...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).map(s => s.parentElement.className)"  # noqa: E501
    assert set(shown.execute_script(visible)) == {shape}
    ink, page = (
        shown.execute_script(f"return getComputedStyle(document.body).{part}")
        for part in ("color", "backgroundColor")
    )
    brightness = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (ink, page)]
    assert (brightness[0] < brightness[1]) == (scheme == "light")
    text = "return getComputedStyle(document.querySelector('svg text')).fill"
    assert shown.execute_script(text) == ink
