"""Tests of keras_transformer.serving.batching, with a model that remembers its batches.

Also: serving.limits, serving.metrics.
"""

import asyncio

import numpy as np
import pytest
from fixtures_serving import Capitals

from keras_transformer.serving.batching import BATCH_SIZES, Batcher
from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.versions import ServedVersion


def strings(*texts):
    return {"text": np.array([text.encode() for text in texts], dtype=object)}


def work(scenario, model=None, **limits):
    """Run `scenario(ask, batcher)`; `ask(*texts)` returns a task for their capitals."""
    model = model or Capitals()

    async def main():
        batcher = Batcher(Limits(**limits), Metrics())
        batcher.start()
        servable = ServedVersion(1, model)

        async def call(texts, seconds=5.0, signature="serving_default"):
            outputs = await batcher.call(servable, signature, strings(*texts), len(texts), seconds)
            return [text.decode() for text in outputs["text"].ravel()]

        def ask(*texts, **more):
            return asyncio.create_task(call(texts, **more))

        try:
            return await scenario(ask, batcher)
        finally:
            model.free.set()
            await batcher.stop()

    return asyncio.run(main()), model


async def busy(ask, model):
    """Occupy the model, so that what comes next has to wait."""
    model.free.clear()
    task = ask("busy")
    while not model.batches:
        await asyncio.sleep(0.001)
    return task


def test_what_arrives_while_the_model_runs_goes_through_it_together():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        others = [ask(f"text {i}") for i in range(20)]
        await asyncio.sleep(0.01)
        model.free.set()
        return [await task for task in (first, *others)]

    answers, _ = work(scenario, model)
    assert answers == [["BUSY"], *([f"TEXT {i}"] for i in range(20))]
    # Filled up to a size for which there are kernels; what fills it up goes to nobody.
    assert [len(batch) for batch in model.batches] == [1, 24]
    assert model.batches[1][20:] == [b""] * 4


def test_batches_have_few_sizes():
    model = Capitals()

    async def scenario(ask, batcher):
        for count in range(1, 33):
            assert len(await ask(*["x"] * count)) == count

    work(scenario, model)
    assert {len(batch) for batch in model.batches} == set(BATCH_SIZES)


def test_a_long_request_is_cut_and_lets_others_through():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        long, short = ask(*[f"r{i}" for i in range(100)]), ask("short")
        await asyncio.sleep(0.01)
        model.free.set()
        return [await task for task in (first, long, short)]

    (_, long, short), _ = work(scenario, model)
    assert long == [f"R{i}" for i in range(100)]
    assert short == ["SHORT"]
    sizes = [len([row for row in batch if row]) for batch in model.batches]
    assert max(sizes) == 32 and sum(sizes) == 102
    (turn,) = [i for i, batch in enumerate(model.batches) if b"short" in batch]
    assert turn == 2  # after one part of the long request, not after all four


def test_signatures_are_not_mixed():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        one, other = ask("a"), ask("b", signature="translate")
        third = ask("c")
        await asyncio.sleep(0.01)
        model.free.set()
        return [await task for task in (first, one, other, third)]

    answers, _ = work(scenario, model)
    assert answers[1:] == [["A"], ["B", "second"], ["C"]]
    assert model.batches[1] == [b"a", b"c"]


def test_what_varies_in_more_than_rows_goes_alone():
    model = Capitals()
    servable = ServedVersion(1, model)
    assert servable.is_batched("serving_default") and servable.is_batched("score")
    assert not servable.is_batched("tokenize") and not servable.is_batched("attention")

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        tasks = [
            asyncio.create_task(batcher.call(servable, "tokenize", strings(*some), 1, 5.0))
            for some in (["a", "abc"], ["abcdef"])
        ]
        await asyncio.sleep(0.01)
        model.free.set()
        await first
        return [(await task)["ids"].shape for task in tasks]

    shapes, _ = work(scenario, model)
    assert shapes == [(2, 3), (1, 6)]  # not padded to the longest of somebody else


def test_a_full_queue_refuses_at_once():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        waiting = [ask(f"w{i}") for i in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(RequestError) as refused:
            await ask("one too many", "of them")
        model.free.set()
        await asyncio.gather(first, *waiting)
        assert await ask("later") == ["LATER"]  # there is room again
        return refused.value

    error, _ = work(scenario, model, queue_rows=4)
    assert (error.code, error.status) == ("RESOURCE_EXHAUSTED", 429)
    assert "3 rows wait" in error.message


@pytest.mark.parametrize("given_up_by", ["deadline", "cancellation"])
def test_what_was_given_up_costs_nothing(given_up_by):
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        late = ask("late", seconds=0.05 if given_up_by == "deadline" else 5)
        stays = ask("stays")
        await asyncio.sleep(0.01)
        if given_up_by == "deadline":
            with pytest.raises(RequestError, match=r"not done within 0\.05 seconds") as error:
                await late
            assert (error.value.code, error.value.status) == ("DEADLINE_EXCEEDED", 504)
        else:
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
        assert batcher._queued == 1
        model.free.set()
        await first
        return await stays

    answer, _ = work(scenario, model)
    assert answer == ["STAYS"]
    assert all(b"late" not in batch for batch in model.batches)


def test_a_request_that_was_given_up_while_the_model_ran_harms_nobody():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        first.cancel()
        other = ask("other")
        await asyncio.sleep(0.01)
        model.free.set()
        return await other, batcher._queued

    assert work(scenario, model)[0] == (["OTHER"], 0)


def test_a_request_that_makes_the_model_fail_fails_alone():
    model = Capitals()

    async def scenario(ask, batcher):
        first = await busy(ask, model)
        good, bad, also = ask("good"), ask("explode"), ask("also", "good")
        await asyncio.sleep(0.01)
        model.free.set()
        await first
        with pytest.raises(RuntimeError, match="secret"):
            await bad
        return await good, await also

    assert work(scenario, model)[0] == (["GOOD"], ["ALSO", "GOOD"])


def test_a_lonely_client_does_not_wait_for_others():
    model = Capitals()

    async def scenario(ask, batcher):
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(50):
            since = loop.time()
            await ask("x")
            times.append(loop.time() - since)
        return sorted(times)[25]

    assert work(scenario, model)[0] < 0.002
