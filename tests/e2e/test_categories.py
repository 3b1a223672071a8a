"""Bounce categories in the accounting, by the program's own rules and by the user's, and the verb
that tells them.
"""
import subprocess

from harness import send_message

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello\r\n'
REFUSAL = '550 5.1.1 no such user here'
LIST = ('<bounce-category-patterns>\n'
        '/^5\\.1\\.1;550 5\\.1\\.1 no such user/ of-mine\n'
        '</bounce-category-patterns>\n')


def classify(world, text, *words):
    return subprocess.run([world.program('ringpost'), 'classify', *words], input=text,
                          capture_output=True, text=True, timeout=60)


def test_accounting(world):
    """A reload brings the user's own patterns, and they go before the rules."""
    daemon = world.daemon()
    sink = world.sink('--rule', f'rcpt {REFUSAL}')
    config = daemon.base() + f'<domain *>\n    smtp-hosts [{sink.address}]:2525\n</domain>\n'
    daemon.write(config)
    daemon.start()
    assert send_message(daemon.listen, 'a@sender.test', ['one@d.test'], TEXT)[0] == 250
    daemon.wait_for(20, bounced=1)
    daemon.write(config + LIST)
    assert daemon.cli('reload').returncode == 0
    assert send_message(daemon.listen, 'a@sender.test', ['two@d.test'], TEXT)[0] == 250
    daemon.wait_for(20, bounced=2)
    rows = daemon.wait_for_rows(2)
    assert {row['rcpt']: row['bounceCat'] for row in rows if row['type'] == 'b'} == \
        {'one@d.test': 'bad-mailbox', 'two@d.test': 'of-mine'}
    assert daemon.shutdown() == 0


def test_verb(world, tmp_path):
    """One line out for each line in, also for those that cannot be read."""
    lines = (f'{REFUSAL}\n'
             '421 4.7.0 [TSS04] deferred due to user complaints\tmx.x.yahoodns.net\t4.7.0\n'
             '550 odd\t\tfive\n'
             '\n'
             'mailbox full\n')
    done = classify(world, lines)
    answers = [line.split('\t') for line in done.stdout.splitlines()]
    assert [answer[:2] for answer in answers] == [
        ['bad-mailbox', 'hard'], ['policy-related', 'transient'], ['-', '-'], ['-', '-'],
        ['quota-issues', 'soft']]
    assert {len(answer) for answer in answers} == {4}
    assert done.returncode == 1
    assert 'line 3: ' in done.stderr and 'line 4: ' in done.stderr
    rules = classify(world, '', '--rules').stdout.splitlines()
    for _, _, rule, place in answers[:2] + answers[4:]:
        assert rules[int(place.rpartition(':')[2]) - 1].startswith(rule + ' ')

    config = tmp_path / 'own.conf'
    config.write_text('smtp-source-host 192.0.2.1 a.test\n' + LIST)
    done = classify(world, f'{REFUSAL}\n550 5.7.1 spam\n', '--config', str(config), '--reaction')
    assert [line.split('\t') for line in done.stdout.splitlines()][0] == \
        ['of-mine', 'hard', 'bounce-category-patterns', f'{config}:3', '-']
    assert done.stdout.splitlines()[1].endswith('\tslow:job')
    assert done.returncode == 0
    config.write_text('<bounce-category-patterns>\nnonsense\n</bounce-category-patterns>\n')
    done = classify(world, 'x\n', f'--config={config}')
    assert done.returncode == 1 and f'{config}:2: ' in done.stderr and done.stdout == ''
    assert classify(world, '', '--colour').returncode == 2
