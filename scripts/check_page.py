#!/usr/bin/env python3
"""Opens pages of `char-rnn export --format html` in a headless Chromium and checks them.

    python3 scripts/check_page.py [--screenshots FOLDER]

Uses the Chromium that is installed, or installs Debian's `chromium-headless-shell`. Trains models
on lists in several scripts and on a hostile one, exports them, and checks for each page that

- the names are those of `char-rnn sample` for the seed, temperature and beginning in the address,
- nothing is reported to the console, and nothing but the page is requested,
- no element comes from the list, and nothing is wider than the window (360, 1280 and 1920 pixels),
- each text has a contrast of 4.5 with what is behind it, in light and dark,
- each control has a name, and saved drawings are XML,
- the probabilities and gradients are those of `char-rnn explain`, and the bars as long as they say.

Exits with 1 if a check fails. With --screenshots, keeps pictures in each theme and width.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/char-rnn"
WIDTHS = [360, 1280, 1920]
DINOS = ROOT / "data/dinos.txt"
HOSTILE = """</script><script>document.title='hostile'</script>
<img src=x onerror=document.title='hostile'>
<!--"'&amp;
${document.title}
__proto__
constructor"""
LISTS = {
    "towns": "Saint-Jean-le-Vieux\nAix-les-Bains\nÉtang-sur-Arroux\nBourg-Saint-Maurice\n" * 3,
    "hebrew": "שרה\nרבקה\nרחל\nלאה\nמרים\nדבורה\nאסתר\nרות\nנעמי\nחנה",
    "devanagari": "अर्जुन\nप्रिया\nराहुल\nअनिता\nसुनीता\nविजय\nलक्ष्मी\nकृष्णा",
    "thai": "กรุงเทพ\nเชียงใหม่\nเชียงราย\nลำปาง\nแม่ฮ่องสอน\nน่าน\nพิษณุโลก",
    "long": "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch\n"
    "Taumatawhakatangihangakoauauotamateaturipukakapikimaungahoronukupokaiwhenuakitanatahu",
    "hostile": HOSTILE,
}
# In single precision 80 steps of `long` round apart from the page, which computes in double.
F64 = ["--dtype", "f64"]
# A model, the flags that train it, and the flags of `sample` with the address that means the same.
PAGES = [
    ("dinos", [DINOS], ["--seed", "1"], "seed=1"),
    (
        "dinos",
        [],
        ["--seed", "7", "--temperature", "0.8", "--prefix", "ty", "--new"],
        "seed=7&temperature=0.8&prefix=ty&new=1",
    ),
    (
        "large",
        [DINOS, "--hidden", "300", "--iterations", "2000", "--validation", "0.1"],
        ["--seed", "18446744073709551615", "-n", "100"],
        "seed=18446744073709551615&n=100",
    ),
    *[
        (name, [f"{name}.txt", "--iterations", "4000", *F64], ["--seed", "2"], "seed=2")
        for name in LISTS
    ],
    ("bare", [], ["--seed", "3"], "seed=3"),
]
# Runs in a copy of a page without its policy, and writes what it finds into the page.
PROBE = r"""
const problems = [];
const numbers_of = (colour) => {
  const [r, g, b, alpha = 1] = colour.match(/[\d.e-]+/g).map(Number);
  return { rgb: [r, g, b].map((c) => (colour.startsWith("color(") ? c : c / 255)), alpha };
};
const luminance = (rgb) => {
  const linear = rgb.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const { rgb, alpha } = numbers_of(getComputedStyle(e).backgroundColor);
    if (alpha > 0) return rgb;
  }
};
let lowest = Infinity;
for (const element of document.querySelectorAll("body *")) {
  const has_text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!has_text || !element.getClientRects().length || element.closest("script")) continue;
  const style = getComputedStyle(element);
  const front = numbers_of(element instanceof SVGElement ? style.fill : style.color).rgb;
  const [low, high] = [luminance(front), luminance(behind(element))].sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  lowest = Math.min(lowest, contrast);
  if (contrast < 4.5) problems.push(`contrast ${contrast.toFixed(2)}: ${element.outerHTML}`);
}
for (const e of document.querySelectorAll("button, input, [role=button], [role=region], svg")) {
  const named = e.ariaLabel || e.labels?.length || (e.localName !== "svg" && e.textContent.trim());
  if (!named) problems.push(`no name: ${e.outerHTML.slice(0, 80)}`);
}
const wide = document.documentElement.scrollWidth;
if (wide > innerWidth) problems.push(`${wide} pixels wide in a window of ${innerWidth}`);
const made = document.querySelectorAll("script, img, iframe, object, link").length;
if (made !== 3) problems.push(`${made} elements that load or run`); // the probe is one of them
const name = decode(current.indices, model);
const texts = (selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent);
const bars = [...document.querySelectorAll("#predictions .f0")].map((e) => e.width.baseVal.value);
const shown_values = {
  name, place: current.place, bars,
  predictions: texts("#predictions g .quiet").map(Number),
  memory: texts("#memory td").map((text) => (isNaN(text) ? null : Number(text))),
};
const drawings = [];
save_file = (name, text) => drawings.push(text);
for (const save of document.querySelectorAll(".tools button")) save.click();
for (const [selector, event] of [["#names button", "click"], ["#predictions [role]", "click"],
    ["#states svg", "pointermove"], ["#loss svg", "pointermove"]]) {
  document.querySelector(selector)?.dispatchEvent(new MouseEvent(event, { clientX: 200 }));
}
at("scale").value = 4;
at("scale").dispatchEvent(new Event("input"));
const values = at("loss").querySelector("output")?.textContent;
if (model.run && !values.startsWith("Iteration ")) problems.push(`no values on hover: ${values}`);
const found = { problems, drawings, lowest, shown_values };
document.documentElement.dataset.found = JSON.stringify(found);
"""


def program(*arguments, folder, status=0):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != status:
        sys.exit(f"check_page.py: {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def without_run(model, path):
    """Writes a model without its run: five tensors, a format and a vocabulary."""
    bytes_ = model.read_bytes()
    length = int.from_bytes(bytes_[:8], "little")
    header = json.loads(bytes_[8 : 8 + length])
    metadata = {key: header["__metadata__"][key] for key in ["format", "vocabulary"]}
    tensors, data = {}, b""
    for name in ["wax", "waa", "wya", "b", "by"]:
        start, end = header[name]["data_offsets"]
        tensors[name] = {**header[name], "data_offsets": [len(data), len(data) + end - start]}
        data += bytes_[8 + length + start : 8 + length + end]
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def browser():
    names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        install = ["apt-get", "install", "-y", "--no-install-recommends", names[0]]
        if subprocess.run(install, capture_output=True).returncode:
            sys.exit(f"check_page.py: install a Chromium first: {' '.join(install)}")
        found = shutil.which(names[0])
    return found


class Document(HTMLParser):
    """The names of a page, and what the probe has found."""

    def __init__(self, text):
        super().__init__()
        self.names, self.is_name, self.found = [], False, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "html" and "data-found" in attributes:
            self.found = json.loads(attributes["data-found"])
        if tag == "li":
            self.names.append("")
            self.is_name = True

    def handle_endtag(self, tag):
        self.is_name &= tag != "li"

    def handle_data(self, data):
        if self.is_name:
            self.names[-1] += data


def opened(chromium, page, address, *flags, width=1280, height=1000, dark=False):
    """What Chromium prints for a page. Exits if it reports an error or requests anything else."""
    with tempfile.NamedTemporaryFile(suffix=".json") as log:
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=20000",
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--enable-logging=stderr",
            f"--log-net-log={log.name}",
            *flags,
            f"file://{page}#{address}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        requests = set(
            re.findall(r'"url":"((?!file:|data:|blob:|chrome)[^"]+)"', Path(log.name).read_text())
        )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    if said or requests or done.returncode:
        sys.exit(f"check_page.py: {page.name}#{address}: {said} {requests} {done.returncode}")
    return done.stdout


def values_differ(shown, model, folder):
    """Whether the probabilities, the bars or the gradients of a page are not those of `explain`."""
    explained = json.loads(program("explain", model, "--json", "--", shown["name"], folder=folder))
    step = explained["steps"][shown["place"]]
    likeliest = [step["probability"], *[other["probability"] for other in step["alternatives"]]]
    likeliest = sorted(likeliest, reverse=True)[:5]
    norms = [norm[by] for norm in step["gradient_norms"] for by in ["state", "input"]]
    memory = [value for at, value in enumerate(shown["memory"]) if at % 3]
    lengths = [bar / shown["bars"][0] * likeliest[0] for bar in shown["bars"]]
    # The page writes few digits, and draws on whole pixels.
    pairs = [(likeliest, shown["predictions"], 0.05, 0), (norms, memory, 1e-3, 1e-9)]
    pairs.append((likeliest, lengths, 0, 1e-3))
    return len(norms) != len(memory) or not all(
        math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
        for ours, theirs, relative, absolute in pairs
        for a, b in zip(ours, theirs)
    )


def check(chromium, page, sample_flags, address, folder, pictures):
    """Checks a page; returns the number of problems."""
    count = [] if "-n" in sample_flags else ["-n", 20]
    expected = program(
        "sample", page.with_suffix(".safetensors"), *count, *sample_flags, folder=folder
    )
    names = Document(opened(chromium, page, address, "--dump-dom")).names
    problems = [] if names == expected.split("\n")[:-1] else [f"names {names}, not {expected!r}"]
    text = page.read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)[0]
    probed = folder / "probed.html"
    probed.write_text(text.replace(policy, "", 1) + f"<script>{PROBE}</script>")
    lowest = []
    for dark in [False, True]:
        for width in WIDTHS:
            flags = {"width": width, "dark": dark}
            found = Document(opened(chromium, probed, address, "--dump-dom", **flags)).found
            if found is None:
                problems.append(f"the probe did not end at {width} pixels")
                continue
            problems += [f"{width} pixels: {problem}" for problem in found["problems"]]
            lowest.append(found["lowest"])
            if values_differ(found["shown_values"], page.with_suffix(".safetensors"), folder):
                problems.append(f"{width} pixels: not as explain: {found['shown_values']}")
            for drawing in found["drawings"]:
                ElementTree.fromstring(drawing)
            if pictures:
                name = f"{page.stem}-{width}-{'dark' if dark else 'light'}.png"
                opened(
                    chromium, page, address, f"--screenshot={pictures / name}", height=4000, **flags
                )
    size, contrast = len(text.encode()), min(lowest, default=0)
    print(f"{page.name}#{address}: {len(names)} names, {size} bytes, contrast from {contrast:.1f}")
    for problem in problems[:10]:
        print(f"  FAIL {problem}")
    return len(problems)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--screenshots", metavar="FOLDER", type=Path)
    pictures = parser.parse_args().screenshots
    if pictures:
        pictures = pictures.resolve()
        pictures.mkdir(parents=True, exist_ok=True)
    chromium = browser()
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    problems = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, text in LISTS.items():
            (folder / f"{name}.txt").write_text(text)
        for name, train_flags, sample_flags, address in PAGES:
            model = folder / f"{name}.safetensors"
            if train_flags:
                program("train", *train_flags, "--quiet", "-o", model, folder=folder)
            if name == "bare":
                without_run(folder / "dinos.safetensors", model)
            if not model.with_suffix(".html").exists():
                program("export", model, "--format", "html", folder=folder)
            problems += check(
                chromium, folder / f"{name}.html", sample_flags, address, folder, pictures
            )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
