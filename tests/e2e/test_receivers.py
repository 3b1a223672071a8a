"""Receivers that behave like known ones, and the bench's scenarios in small: what they count, never how
long they take.
"""
import json
import subprocess

import pytest


def bench(world, *words, seconds=60):
    """The answer of ringpost-bench, which exits with 3 when mail was lost or doubled."""
    argv = [world.program('ringpost-bench'), *words, '--spool', str(world.path('.')), '--json']
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f'{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}'
    return json.loads(done.stdout)


# Model, and how much faster its seconds pass.
MODELS = [('yes-sayer', 1), ('gmail-like', 600), ('yahoo-like', 600), ('microsoft-like', 600),
          ('greylister', 200), ('dying', 60)]


@pytest.mark.parametrize('model, pace', MODELS, ids=[row[0] for row in MODELS])
def test_a_model(world, model, pace):
    """Whatever such a receiver does, each recipient is delivered once or refused by it."""
    answer = bench(world, 'e2e', '--no-direct', '--model', model, '--pace', str(pace), '--warmup',
                   '0', '--messages', '1000', '--domains', '10')
    run = answer['series'][0]['median']
    assert run['arrived'] + run['bounced'] == 1000
    assert run['lost'] == run['duplicates'] == run['damaged'] == 0
    assert model != 'greylister' or run['deferrals'] >= 1000


def test_a_hidden_rate(world):
    """What goes beyond a rate that nobody told is put off, and arrives after the rest it costs."""
    answer = bench(world, 'e2e', '--no-direct', '--rule',
                   'dot rate=100/1 penalty=1 421 4.7.28 Unusual rate', '--vmtas', '1', '--warmup',
                   '0', '--messages', '300', '--domains', '1')
    run = answer['series'][0]['median']
    assert run['arrived'] == 300
    assert run['lost'] == run['duplicates'] == 0
    assert run['deferrals'] > 0


def test_a_connection_cap_is_kept_within(world):
    """Ten connections are enough for a receiver that turns the eleventh away."""
    answer = bench(world, 'e2e', '--no-direct', '--rule',
                   'connect total=10 421 4.7.0 Too many connections', '--vmtas', '1',
                   '--sink-addresses', '1', '--connections', '10', '--domains', '1', '--warmup',
                   '0', '--messages', '2000', '--rule', 'dot delay=5')
    run = answer['series'][0]['median']
    assert run['arrived'] == 2000
    assert run['deferrals'] == 0


SCENARIOS = [
    ('tail', '--messages', '2000'),
    ('phpmailer', '--messages', '500'),
]


@pytest.mark.parametrize('words', SCENARIOS, ids=[row[0] for row in SCENARIOS])
def test_a_scenario(world, words):
    answer = bench(world, 'scenario', *words, seconds=120)
    assert answer['faults'] == 0
    assert answer['scenario'] == words[0]


def test_one_connection_stays_one(world):
    figures = bench(world, 'scenario', 'pipelining', '--messages', '20')['figures']
    assert figures['open_max'] == figures['connects'] == 1


def test_down_and_back(world):
    """A receiver that is away gets few tries, not all that waits for it, and everything later."""
    answer = bench(world, 'scenario', 'down-and-back', '--pace', '4')
    figures = answer['figures']
    assert answer['faults'] == 0
    assert figures['waiting_at_return'] > 1000
    assert figures['connects_while_down'] < figures['waiting_at_return'] / 10
    assert len(answer['series']) >= 5
