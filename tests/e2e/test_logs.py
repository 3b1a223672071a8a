"""What queues want in the log: connections, dialogues, messages, where mail goes."""
from harness import send_message, until
from test_peers import Receiver

TEXT = b'From: a@sender.test\r\nSubject: test\r\n\r\nHello out there\r\n'


def test_log_directives(world):
    """Each domain has what it asked for and nothing else."""
    daemon = world.daemon()
    receiver = Receiver(world, {'no@talk.test': '550 5.1.1 <no@talk.test> unknown\x01'})
    route = f'    smtp-hosts [{receiver.address}]:2525\n    connection-idle-timeout 0\n'
    daemon.write(
        daemon.base() +
        f'<domain talk.test>\n{route}    log-commands yes\n    log-resolution yes\n</domain>\n'
        f'<domain data.test>\n{route}    log-commands yes\n    log-data yes\n</domain>\n'
        f'<domain short.test>\n{route}    log-connections yes\n</domain>\n'
        f'<domain none.test>\n{route}</domain>\n')
    daemon.start()
    for number, rcpt in enumerate(['no@talk.test', 'a@data.test', 'a@short.test', 'a@none.test']):
        assert send_message(daemon.listen, f'from{number}@s.test', [rcpt], TEXT)[0] == 250
        daemon.wait_for(20, bounced=1, delivered=number)
    place = f'smtp-out {daemon.source}>{receiver.address}:2525 '

    def lines(needle):
        return [line.split(place, 1)[-1] for line in daemon.program.log().split('\n')
                if needle in line]

    until(lambda: lines('closed: '), 10, 'the end of a connection in the log')
    assert '> MAIL FROM:<from0@s.test>' in ' '.join(lines('from0'))
    assert lines('> RCPT TO:<no@talk.test>') == ['> RCPT TO:<no@talk.test>']
    assert [line for line in lines('< 550') if 'unknown' in line and '\x01' not in line]
    assert lines('resolution ') and receiver.address in lines('resolution ')[0]
    assert lines('Hello') == ['>> Hello out there']
    assert [line.split()[0] for line in lines('short.test')] == ['opening']
    assert len(lines('ready: ')) == 1 and len(lines('closed: ')) == 1
    assert lines('from2') == [] and lines('from3') == [] and lines('none.test') == []
    assert daemon.shutdown() == 0


def test_log_transfer_failures(world):
    """A connection lost behind the final dot is one; a refusal in words is none."""
    daemon = world.daemon()
    sink = world.sink('--rule', 'dot sender=lost@s.test reset', '--rule', 'dot 451 4.3.0 not now')
    daemon.write(daemon.base() + f'<domain *>\n    smtp-hosts [{sink.address}]:2525\n'
                 '    log-transfer-failures yes\n</domain>\n')
    daemon.start()
    for sender in ['refused@s.test', 'lost@s.test']:
        assert send_message(daemon.listen, sender, ['a@d.test'], TEXT)[0] == 250
        daemon.wait_for(20, deferred=1 if sender[0] == 'r' else 2)
    log = daemon.program.log().split('\n')
    assert len([line for line in log if 'transfer failed: ' in line]) == 1
    assert daemon.shutdown() == 0
