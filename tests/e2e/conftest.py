"""pytest's view of the harness: python3 -m pytest tests/e2e --build BUILD_DIR"""
import os
import shutil
import signal

import pytest

from harness import FIGURES, World

TEST_SECONDS_MAX = 600


def pytest_addoption(parser):
    parser.addoption('--build', default='build', help='the build directory of the tree')


def pytest_terminal_summary(terminalreporter):
    for figure in FIGURES:
        terminalreporter.write_line(figure)


def states_of(world):
    """What each daemon of a test that failed says of its queues."""
    for daemon in world.daemons:
        try:
            yield daemon.state()
        except Exception as error:  # The failure itself is what has to be seen.
            yield f'{daemon.config_path}: {error}\n'


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    item.has_failed = getattr(item, 'has_failed', False) or report.failed
    if report.when == 'call' and report.failed and 'world' in item.funcargs:
        report.sections.append(('queues', '\n'.join(states_of(item.funcargs['world']))))


@pytest.fixture(autouse=True)
def time_limit():
    """No test hangs."""
    def too_late(number, frame):
        raise TimeoutError(f'the test took longer than {TEST_SECONDS_MAX} s')

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(TEST_SECONDS_MAX)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def world(request):
    build = os.path.abspath(request.config.getoption('--build'))
    assert os.path.exists(os.path.join(build, 'cmd', 'ringpostd')), f'{build} holds no ringpostd'
    name = ''.join(c if c.isalnum() else '-' for c in request.node.name)[:60]
    world = World(build, name)
    yield world
    world.close()
    # What a failed test left behind is worth a look.
    if not getattr(request.node, 'has_failed', False):
        shutil.rmtree(world.directory, ignore_errors=True)
