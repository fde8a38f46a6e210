"""Tests of the server's page, in a real browser before a server that answers what a test wants."""

import json
import time

import numpy as np
import pytest
from fixtures_page import HEADS, LAYERS, browser, page, server
from selenium.webdriver.common.keys import Keys

__all__ = ["browser", "page", "server"]

BEST, SECOND, THIRD = "Zwei Hunde rennen.", "Zwei Hunde laufen.", "Hunde."
PARTIAL = "Zwei Hunde "  # where a stream waits
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"

# The contrast of what can be seen on the page to what is behind it. A canvas turns any notation of
# a colour into red, green and blue.
CONTRASTS = """
const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
function rgb(colours) {
  context.clearRect(0, 0, 1, 1);
  for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}
function behind(element) {
  const own = getComputedStyle(element).backgroundColor;
  return element.parentElement ? [...behind(element.parentElement), own] : [own];
}
function luminance(colours) {
  const [r, g, b] = rgb(colours).map((value) => {
    value /= 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(element, property, back) {
  const [one, other] = [luminance([...back, getComputedStyle(element)[property]]), luminance(back)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}
"""
OF_TEXT = (
    CONTRASTS
    + """
const written = (element) => element.value || [...element.childNodes].some(
  (node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
return [...document.body.querySelectorAll("*")]
  .filter((element) => element.checkVisibility() && written(element))
  .map((element) => [element.outerHTML, contrast(element, "color", behind(element))]);
"""
)
OF_BORDERS = (
    CONTRASTS
    + """
return [...document.querySelectorAll("textarea, select")].filter((e) => e.checkVisibility())
  .map((e) => [e.outerHTML, contrast(e, "borderTopColor", behind(e.parentElement))]);
"""
)
OF_NUMBERS = (
    CONTRASTS
    + """
const cell = document.querySelector("#weights tbody td");
return Array.from({ length: 201 }, (_, i) => {
  cell.style.setProperty("--weight", i / 200);
  return [`weight ${i / 200}`, contrast(cell, "color", behind(cell))];
});
"""
)


def test_text_appears_piece_by_piece(page, server):
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    assert page.text("status") == "Translating…"
    assert not page.find("hypotheses").is_displayed()
    server.go_on.set()
    page.wait(lambda: page.text("output") == BEST)


def test_end_shows_the_hypotheses_with_their_scores_and_the_best_is_chosen(page, server):
    page.translate()
    shown = [choice.text.split("\n") for choice in page.all("#choices label")]
    assert [text for text, _, _ in shown] == [BEST, SECOND, THIRD]
    assert [score for _, _, score in shown] == ["−0.25", "−1.50", "−2.75"]
    assert [choice.is_selected() for choice in page.all("#choices input")] == [True, False, False]
    assert page.text("status").startswith(f"Translation: {BEST}\n3 hypotheses in ")
    assert server.questions == [
        ("stream", {"text": "Two dogs run."}),
        ("attention", {"text": "Two dogs run.", "target": BEST}),
    ]


def test_draft_looks_like_one_until_the_final_translation_is_there(page, server):
    server.draft, server.pieces = True, ["A ", "draft"]
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == "A ")
    assert page.find("output").value_of_css_property("font-style") == "italic"
    assert page.text("status") == "A draft; the final translation may differ."
    server.go_on.set()
    page.wait(lambda: page.text("output") == BEST)
    assert page.find("output").value_of_css_property("font-style") == "normal"


def test_one_is_told_that_a_text_was_cut(page, server):
    server.truncated = True
    page.translate()
    assert "The text was longer than the model takes, so its end was cut off." in page.text(
        "status"
    )


def test_choosing_a_hypothesis_shows_its_heat_map(page, server):
    page.translate()
    _, first, _ = page.table()
    page.find("text").send_keys(" And a cat.")  # the heat map stays with what was translated
    page.all("#choices input")[1].click()
    page.wait(lambda: page.table()[1] != first)
    assert server.questions[-1] == ("attention", {"text": "Two dogs run.", "target": SECOND})
    sources, targets, numbers = page.table()
    pieces, weights = server.attention(SECOND)
    assert (sources, targets) == (server.source_pieces, pieces)
    np.testing.assert_allclose(numbers, weights[-1].mean(0), atol=0.0051)


def test_cells_of_each_layer_and_head_are_the_numbers_of_the_server(page, server):
    page.translate()
    _, weights = server.attention(BEST)
    seen = set()
    for layer in range(LAYERS):
        page.choose("layer", f"{layer + 1}")
        for head in range(HEADS):
            page.choose("head", f"{head + 1}")
            numbers = page.table()[2]
            np.testing.assert_allclose(numbers, weights[layer, head], atol=0.0051)
            assert f"layer {layer + 1}, head {head + 1}." in page.text("caption")
            seen.add(numbers.tobytes())
        page.choose("head", "mean of all heads")
        np.testing.assert_allclose(page.table()[2], weights[layer].mean(0), atol=0.0051)
    assert len(seen) == LAYERS * HEADS


def test_layer_and_head_stay_when_the_hypothesis_changes(page):
    page.translate()
    page.choose("layer", "1")
    page.choose("head", "3")
    page.all("#choices input")[2].click()
    page.wait(lambda: page.table()[1] == ["Hunde.", "[EOS]"])
    assert "layer 1, head 3." in page.text("caption")


def test_everything_works_by_keyboard(page, server):
    assert page.focused() == "text"
    server.go_on.clear()
    page.press("Two dogs", Keys.ENTER, "run.", Keys.CONTROL + Keys.ENTER)
    page.wait(lambda: page.text("output") == PARTIAL)
    assert server.questions == [("stream", {"text": "Two dogs\nrun."})]
    page.press(Keys.ESCAPE)
    page.wait(lambda: page.text("status") == "Stopped.")
    assert server.gone.wait(5)  # the server is told, too
    assert page.text("output") == PARTIAL
    server.go_on.set()
    page.press(Keys.CONTROL + Keys.ENTER)
    page.wait(lambda: page.find("weights").is_displayed())
    order = []
    for _ in range(5):
        page.press(Keys.TAB)
        order.append(page.run("return document.activeElement.id || document.activeElement.type"))
    assert order == ["submit", "radio", "layer", "head", "scroll"]
    for _ in range(3):
        page.press(Keys.SHIFT + Keys.TAB)
    page.press(Keys.ARROW_DOWN)
    page.wait(lambda: page.table()[1] == server.attention(SECOND)[0])


def test_stop_button_stops_and_hands_the_focus_back(page, server):
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    page.press(Keys.TAB, Keys.ENTER)
    page.wait(lambda: page.text("status") == "Stopped.")
    assert server.gone.wait(5)
    assert not page.find("stop").is_enabled()
    assert page.focused() == "text"


def test_another_translation_takes_the_place_of_the_one_under_way(page, server):
    server.go_on.clear()
    page.start("One")
    page.wait(lambda: page.text("output") == PARTIAL)
    page.start("Two")
    assert server.gone.wait(5)
    page.wait(lambda: page.text("output") == PARTIAL)
    assert page.text("status") == "Translating…"
    assert page.find("stop").is_enabled()
    server.go_on.set()
    page.wait(lambda: page.find("weights").is_displayed())
    assert page.text("output") == BEST
    assert page.text("error") == ""


def test_attention_that_comes_too_late_is_not_shown(page, server):
    server.look_on.clear()
    page.start()
    page.wait(lambda: page.text("attention-note") == "Asking for the attention…")
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    server.look_on.set()
    time.sleep(0.2)
    assert page.run("return document.querySelector('#map').hidden")
    server.go_on.set()
    page.wait(lambda: page.find("weights").is_displayed())


def test_refusal_is_shown_with_its_message_and_leaves_with_the_next_translation(page, server):
    server.refusals["stream"] = 429, "Too many translations at once; try again in 2 seconds."
    page.start()
    page.wait(lambda: page.text("error"))
    assert page.text("error") == "Too many translations at once; try again in 2 seconds."
    assert page.find("error").aria_role == "alert"
    assert page.text("status") == ""
    server.refusals.clear()
    page.translate()
    assert page.text("error") == ""


def test_lost_server_is_an_error_in_words(page, server):
    server.shutdown()
    server.server_close()
    page.start()
    page.wait(lambda: page.text("error"))
    assert page.text("error") == "The server can’t be reached. Is it running?"


@pytest.mark.parametrize(
    ("event", "message"),
    [("error", "The model ran out of memory."), (None, "The server ended before the translation")],
)
def test_error_in_the_midst_is_shown_below_what_is_there(page, server, event, message):
    server.last_event = event
    page.start()
    page.wait(lambda: message in page.text("error"))
    assert page.text("output") == BEST
    assert not page.find("stop").is_enabled()


def test_text_that_is_missing_or_too_long_is_not_sent(page, server):
    server.text_length = 5
    page.open()
    page.start(" ")
    page.wait(lambda: page.text("error") == "There is no text to translate.")
    page.start("123456")
    page.wait(lambda: page.text("error") == "The text is longer than 5 characters.")
    assert not server.questions
    page.translate("12345")


def test_model_without_attention_is_a_note_and_another_failure_an_error(page, server):
    server.refusals["attention"] = 404, "No such signature."
    page.start()
    page.wait(lambda: page.text("attention-note") == "This model shows no attention.")
    assert page.text("error") == ""
    server.refusals["attention"] = 503, "The server is stopping."
    page.start()
    page.wait(lambda: page.text("error") == "The server is stopping.")
    assert page.text("output") == BEST


def test_markup_is_shown_as_text_and_runs_nothing(page, server):
    server.description = MARKUP
    server.pieces = [MARKUP, "."]
    server.hypotheses = {MARKUP: -1.0, f"<b>{MARKUP}</b>": -2.0}
    server.source_pieces = [MARKUP, "<b>"]
    server.go_on.clear()
    page.open().start(MARKUP)
    page.wait(lambda: page.text("output") == MARKUP)
    server.go_on.set()
    page.wait(lambda: page.find("weights").is_displayed())
    assert MARKUP in page.text("about")
    assert page.text("output") == MARKUP
    assert page.all("#choices label")[1].text.startswith(f"<b>{MARKUP}")
    assert page.table()[0] == [MARKUP, "<b>"]
    server.refusals["stream"] = 400, MARKUP
    page.start()
    page.wait(lambda: page.text("error") == MARKUP)
    assert not page.all("body img, body script, body b")
    assert page.browser.title == "a b"


def test_no_request_leaves_the_server_and_the_console_stays_empty(page, server):
    page.translate()
    page.all("#choices input")[1].click()
    page.wait(lambda: page.table()[1] == server.attention(SECOND)[0])
    entries = [json.loads(entry["message"]) for entry in page.browser.get_log("performance")]
    messages = [entry["message"] for entry in entries]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    paths = {params["request"]["url"].removeprefix(server.url) for params in sent}
    methods = {"v1/models/a%20b:stream", "v1/models/a%20b:attention"}
    assert paths == {"", "page.css", "page.js", "icon.svg", "info"} | methods
    assert page.browser.get_log("browser") == []


def test_everything_that_can_be_used_has_a_name_and_a_role(page, server):
    server.source_pieces = ["a"] * 81  # all four selects
    server.hypotheses = {"b " * 81: -1.0, SECOND: -2.0}
    page.translate()
    used = page.all("button, select, input, textarea, [tabindex]")
    assert all(element.is_displayed() for element in used)
    assert [(element.aria_role, element.accessible_name) for element in used] == [
        ("textbox", "Text"),
        ("button", "Translate"),
        ("button", "Stop"),
        ("radio", f"{'b ' * 81}score −1.00"),
        ("radio", f"{SECOND} score −2.00"),
        ("combobox", "Layer"),
        ("combobox", "Head"),
        ("combobox", "Output pieces"),
        ("combobox", "Source pieces"),
        ("region", "Attention"),
    ]
    group = page.find("hypotheses")
    assert (group.aria_role, group.accessible_name) == (
        "group",
        "Hypotheses best first, with their scores",
    )


def test_heat_map_is_a_table_with_a_name_and_headers(page, server):
    page.translate()
    table = page.find("weights")
    assert table.aria_role == "table"
    assert table.accessible_name == page.text("caption")
    columns, rows = page.all("#weights thead th"), page.all("#weights tbody th")
    assert {column.aria_role for column in columns} == {"columnheader"}
    assert {row.aria_role for row in rows} == {"rowheader"}
    assert [column.accessible_name for column in columns] == server.source_pieces


def test_translation_is_announced_once_at_its_end(page, server):
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    live = "[aria-live], [role=status], [role=alert]"
    assert page.run(f"return document.querySelector('#output').closest('{live}')") is None
    assert page.find("status").aria_role == "status"
    assert page.text("status") == "Translating…"
    server.go_on.set()
    page.wait(lambda: page.text("status").startswith(f"Translation: {BEST}"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_in_both_colour_schemes(page, server, scheme):
    page.emulate(prefers_color_scheme=scheme)
    light = page.run("return matchMedia('(prefers-color-scheme: light)').matches")
    assert light == (scheme == "light")

    def check(script, least, many):
        contrasts = page.run(script)
        assert len(contrasts) >= many
        assert [pair for pair in contrasts if pair[1] < least] == []

    server.draft = True
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    check(OF_TEXT, 4.5, 10)
    server.go_on.set()
    page.wait(lambda: page.find("weights").is_displayed())
    check(OF_TEXT, 4.5, 50)
    check(OF_BORDERS, 3, 3)
    check(OF_NUMBERS, 4.5, 201)
    server.refusals["stream"] = 429, "Wait."
    page.start()
    page.wait(lambda: page.text("error"))
    check(OF_TEXT, 4.5, 10)


def test_focus_can_be_seen_and_motion_is_reduced_where_it_is_not_wanted(page, server):
    assert page.find("text").value_of_css_property("outline-width") == "3px"
    moving = "return getComputedStyle(document.querySelector('#output'), '::after').animationName"
    server.go_on.clear()
    page.start()
    page.wait(lambda: page.text("output") == PARTIAL)
    assert page.run(moving) == "blink"
    page.emulate(prefers_reduced_motion="reduce")
    assert page.run(moving) == "none"


def test_large_heat_map_is_shown_in_parts_and_drawn_fast(page, server):
    server.source_pieces = [f"s{i}" for i in range(400)]
    target = " ".join(f"t{i}" for i in range(399))
    server.hypotheses = {target: -1.0}
    page.translate()
    assert page.table()[2].shape == (80, 80)
    assert (
        "Too large to be shown at once: output pieces 1 to 80 of 400, source pieces 1 to 80 of 400."
        in page.text("caption")
    )
    page.choose("rows", "321 to 400 of 400")
    page.choose("columns", "81 to 160 of 400")
    sources, targets, numbers = page.table()
    assert (sources[0], targets[0], targets[-1]) == ("s80", "t320", "[EOS]")
    _, weights = server.attention(target)
    np.testing.assert_allclose(numbers, weights[-1].mean(0)[320:, 80:160], atol=0.0051)
    milliseconds = page.run(
        "const began = performance.now(); layer.dispatchEvent(new Event('change'));"
        "document.body.offsetHeight; return performance.now() - began"
    )
    assert milliseconds < 1500


def test_narrow_window_scrolls_the_heat_map_and_not_the_page(page, server):
    server.source_pieces = ["s" * 40] * 30
    server.hypotheses = {"w" * 300: -1.0, "w" * 299: -2.0}
    server.description = "d" * 200
    page.resize(360)
    page.open().translate("x" * 500)
    wide = "return arguments[0].scrollWidth > arguments[0].clientWidth"
    assert page.run("return innerWidth") == 360
    assert not page.run(wide, page.all("html")[0])
    assert page.run(wide, page.find("scroll"))
    edges = "return [...document.querySelectorAll('main *:not(#scroll *)')]"
    right = f"{edges}.map((e) => e.getBoundingClientRect().right)"
    assert max(page.run(right)) <= 360
