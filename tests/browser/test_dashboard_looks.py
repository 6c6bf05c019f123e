"""Contrast, motion and size limits of the dashboard's pages, in a real Chromium."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="module")


COLOURS = """
(names) => {
  const probe = document.body.appendChild(document.createElement("i"));
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const colours = names.map((name) => {
    probe.style.color = `var(--${name})`;
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  });
  probe.remove();
  return colours;
}
"""
"""Return red, green and blue of custom properties, as drawn."""

PAIRS = [
    *product(["text", "muted"], ["ground", "panel", "raised", "hover", "accent-soft"]),
    *product(["accent"], ["ground", "panel", "raised", "hover", "accent-soft"]),
    *product(["string", "figure", "bad", "warn"], ["panel", "raised", "hover"]),
    ("bad", "bad-soft"),
    ("accent-text", "accent"),
]
"""The text colours and the backgrounds that they appear on."""


def luminance(colour: list[int]) -> float:
    """Compute the relative luminance of WCAG 2.2."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(page: Page, scheme: Any) -> None:
    """Text meets WCAG 2.2, level AA: a contrast of 4.5 to 1 at any size."""
    await page.emulate_media(color_scheme=scheme)
    names = sorted({name for pair in PAIRS for name in pair})
    colours = dict(zip(names, await page.evaluate(COLOURS, names), strict=True))
    too_weak = {}
    for pair in PAIRS:
        darker, lighter = sorted(luminance(colours[name]) for name in pair)
        contrast = (lighter + 0.05) / (darker + 0.05)
        if contrast < 4.5:
            too_weak[pair] = round(contrast, 2)
    assert too_weak == {}


async def test_reduced_motion_disables_animations(page: Page) -> None:
    """With reduced motion neither waiting indicators nor highlights are animated."""
    await page.emulate_media(reduced_motion="reduce")
    animations = """() => ["dot waiting", "flash", "ghost"].map((name) => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.className = name;
      const { animationName } = getComputedStyle(probe);
      probe.remove();
      return animationName;
    })"""
    assert await page.evaluate(animations) == ["none"] * 3
    await page.emulate_media(reduced_motion="no-preference")
    assert "none" not in await page.evaluate(animations)


async def test_a_long_log_stays_short(page: Page) -> None:
    """The page and its list retain the last 1,000 of 3,000 records."""
    shown = await page.evaluate(
        """async () => {
          const { LogView } = await import("/_dashboard/log.js");
          let listener;
          const view = new LogView(null, { listen: (added) => ((listener = added), () => null) });
          const record = (number) => ({ number, time: "2026-01-01T00:00:00Z", level: "info", logger: "x", message: `m${number}` });
          for (let start = 0; start < 3000; start += 500) {
            listener({ records: Array.from({ length: 500 }, (_, index) => record(start + index + 1)) });
          }
          const all = view.element.querySelectorAll(".record");
          return [all.length, all[0].querySelector(".message").textContent];
        }"""
    )
    assert shown == [1000, "m2001"]


async def test_a_long_history_shows_its_newest(page: Page) -> None:
    """The page shows the last 2,000 of 5,000 revisions, and does not present the oldest of these as the first."""
    shown = await page.evaluate(
        """async () => {
          const { HistoryView } = await import("/_dashboard/history.js");
          const { Shape } = await import("/_dashboard/shape.js");
          const revision = (ts) => ({ ts, prevTs: ts > 1 ? ts - 1 : null, document: { n: ts } });
          const watch = (path, { after }, listener) => {
            const revisions = Array.from({ length: 250 }, (_, index) => revision(after + index + 1));
            listener({ value: { revisions, isDone: after + 250 >= 5000 } });
            return () => null;
          };
          const view = new HistoryView({ watch }, "x", new Shape(null));
          const all = [...view.element.querySelectorAll(".revision")];
          return [all.length, all[0].querySelector(".change").textContent, view.element.lastChild.textContent];
        }"""
    )
    assert shown == [2000, "n 4999 → 5000", "2,000 revisions, the newest."]


async def test_an_inherited_property_is_not_a_field(page: Page) -> None:
    """A property that every JavaScript object inherits does not count as a field of a document."""
    find = "async (name) => (await import('/_dashboard/values.js')).fieldOf({ title: 'x' }, name) === undefined"
    for name in ("constructor", "toString", "__proto__"):
        assert await page.evaluate(find, name), name
