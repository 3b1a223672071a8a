"""Who may send where, how much may wait, and what becomes of mail whose virtual MTA there is not."""
from harness import Smtp, send_message, until
from test_peers import Receiver

BODY = b'Subject: s\r\n\r\nHello\r\n'


def config(receiver, source, more=''):
    return (f'{{base}}\n<source 127.0.0.0/8>\n{source}\n</source>\n{more}\n'
            f'<domain *>\nsmtp-hosts [{receiver.address}]:2525\n</domain>\n')


def rcpt_codes(daemon, *recipients):
    client = Smtp(daemon.listen)
    client.command('EHLO client.test')
    client.command('MAIL FROM:<a@sender.test>')
    codes = [client.command(f'RCPT TO:<{rcpt}>')[0] for rcpt in recipients]
    client.close()
    return codes


def test_mail_that_everybody_may_send(world):
    """Relay domains and addresses are open to all clients, nothing else is."""
    receiver = Receiver(world)
    more = ('relay-domain open.test,*.below.test\nrelay-domain [*.]both.test\n'
            'relay-address one@shut.test\nrelay-address /^list-\\d+@shut\\.test$/\n')
    daemon = world.daemon(config(receiver, 'always-allow-relaying no', more)).start()
    rcpts = ['a@open.test', 'a@OPEN.test', 'a@x.open.test', 'a@below.test', 'a@x.below.test',
             'a@both.test', 'a@x.both.test', 'one@shut.test', 'two@shut.test', 'list-7@shut.test',
             'list-x@shut.test', 'a@open.test.other.test']
    assert rcpt_codes(daemon, *rcpts) == [250, 250, 550, 550, 250, 250, 250, 250, 550, 250, 550, 550]
    assert send_message(daemon.listen, 'a@sender.test', ['a@open.test'], BODY)[0] == 250
    assert receiver.wait(1)[0][1] == ['a@open.test']
    # Nor does it need a login, where others do.
    daemon.write(config(receiver, 'require-auth yes', more + 'relay-debug yes'))
    assert daemon.cli('reload').returncode == 0
    assert rcpt_codes(daemon, 'a@open.test', 'a@shut.test') == [250, 530]
    daemon.write(config(receiver, 'always-allow-relaying no', more + 'relay-debug yes'))
    assert daemon.cli('reload').returncode == 0
    assert rcpt_codes(daemon, 'a@open.test', 'a@shut.test') == [250, 450]


def test_so_many_may_wait(world):
    """Above spool-max-recipients new mail is put off, until there is room again."""
    receiver = Receiver(world)
    dead = f'<domain dead.test>\nsmtp-hosts [{world.address()}]:2525\n</domain>'
    daemon = world.daemon(config(receiver, '', f'spool-max-recipients 4\n{dead}')).start()

    def put_off():
        client = Smtp(daemon.listen)
        client.command('EHLO client.test')
        reply = client.command('MAIL FROM:<a@sender.test>')
        client.close()
        return reply[0] == 452

    assert send_message(daemon.listen, 'a@sender.test', ['0@dead.test'], BODY)[0] == 250
    assert not put_off()
    assert send_message(daemon.listen, 'a@sender.test', [f'{i}@dead.test' for i in range(3)],
                        BODY)[0] == 250
    until(put_off, 10, 'the refusal')
    daemon.ask('delete', '--queue=dead.test/v')
    until(lambda: not put_off(), 10, 'room')


def test_mail_whose_way_there_is_not(world):
    """It is refused; or it goes by a fallback; or it is taken and bounces, at once and for good."""
    receiver = Receiver(world)
    way = '<virtual-mta w>\nsmtp-source-host {daemon.source} w.relay.test\n</virtual-mta>\n'
    lenient = 'process-x-virtual-mta yes\nreject-invalid-virtual-mta no'
    daemon = world.daemon(config(receiver, lenient, way)).start()

    def send():
        return send_message(daemon.listen, 'a@sender.test', ['a@one.test'],
                            b'x-virtual-mta: none\r\n' + BODY)[0]

    assert send() == 250
    row = daemon.wait_for_rows(1)[0]
    assert (row['type'], row['dsnStatus'].split(' ')[0], row['queue']) == \
        ('b', '5.3.5', 'one.test/{invalid}')
    daemon.write(config(receiver, lenient, way + 'invalid-virtual-mta-fallback w'))
    assert daemon.cli('reload').returncode == 0
    assert send() == 250
    row = daemon.wait_for_rows(2)[1]
    assert (row['type'], row['queue']) == ('d', 'one.test/w')
    daemon.write(config(receiver, 'process-x-virtual-mta yes',
                        way + 'invalid-virtual-mta-fallback w'))
    assert daemon.cli('reload').returncode == 0
    assert send() == 554
    # What waits for a virtual MTA that a reload takes away goes by the fallback as well.
    daemon.ask('pause', 'queue', 'one.test/w')
    daemon.write(config(receiver, 'default-virtual-mta w', way))
    assert daemon.cli('reload').returncode == 0
    assert send_message(daemon.listen, 'a@sender.test', ['a@one.test'], BODY)[0] == 250
    daemon.write(config(receiver, '', 'invalid-virtual-mta-fallback v'))
    assert daemon.cli('reload').returncode == 0
    daemon.ask('resume', 'queue', 'one.test/w')
    row = daemon.wait_for_rows(3)[2]
    assert (row['type'], row['queue']) == ('d', 'one.test/v')


def test_header_lines_of_files(world):
    """The source's file and that of the virtual MTA, its pool or the top level; bad ones are told."""
    receiver = Receiver(world)
    files = {}
    for name, text in [('top', 'X-Top: 1\n'), ('own', 'X-Own: 1\r\n a b\r\n\r\nX-Also: 2'),
                       ('pool', 'X-Pool: 1\n'), ('in', 'X-In: 1\n'), ('bad', 'X-Ok: 1\nno field\n'),
                       ('dot', '.x: 1\n'), ('fold', ' x\n'), ('eight', 'X-Y: \u00e9\n')]:
        files[name] = world.path(name + '.headers')
        with open(files[name], 'w', encoding='utf-8', newline='') as file:
            file.write(text)
    more = (f'include-headers-from {files["top"]}\n'
            f'<virtual-mta w>\ninclude-headers-from {files["own"]}\n</virtual-mta>\n'
            '<virtual-mta x>\n</virtual-mta>\n<virtual-mta y>\ninclude-headers-from ""\n'
            '</virtual-mta>\n<virtual-mta-pool p>\nvirtual-mta w\nvirtual-mta x\n'
            f'include-headers-from {files["pool"]}\n</virtual-mta-pool>\n')
    daemon = world.daemon(config(receiver, 'process-x-virtual-mta yes\nhide-message-source yes\n'
                                 f'include-headers-from {files["in"]}', more)).start()
    for count, (way, lines) in enumerate([(b'v', b'X-Top: 1\r\n'), (b'x', b'X-Pool: 1\r\n'),
                                          (b'w', b'X-Own: 1\r\n a b\r\nX-Also: 2\r\n'),
                                          (b'y', b'')], 1):
        assert send_message(daemon.listen, 'a@sender.test', ['b@one.test'],
                            b'x-virtual-mta: ' + way + b'\r\n' + BODY)[0] == 250
        content = receiver.wait(count)[-1][2]
        assert content.split(b'\r\n', 1)[1].rstrip() == (b'X-In: 1\r\n' + lines + BODY).rstrip()
    for name, reason in [('bad', 'bad.headers:2: the line is no header field'),
                         ('dot', 'no header field'), ('fold', 'no header field'),
                         ('eight', 'no printable ASCII'), ('none', 'No such file')]:
        daemon.write(config(receiver, '', f'include-headers-from {world.path(name + ".headers")}'))
        answer = daemon.cli('reload')
        assert answer.returncode != 0 and reason in answer.stdout + answer.stderr, answer


def test_aliases(world):
    """Mail for one address goes to others, whoever sends it, and accounting says whom it was for."""
    receiver = Receiver(world)
    more = ('alias desk@here.test one@in.test,two@in.test\n<aliases>\n'
            'abuse@here.test  three@in.test\n</aliases>\n')
    daemon = world.daemon(config(receiver, 'always-allow-relaying no', more)).start()
    assert rcpt_codes(daemon, 'one@in.test', 'x@here.test') == [550, 550]
    assert send_message(daemon.listen, 'a@sender.test', ['Desk@HERE.test', 'abuse@here.test'],
                        BODY)[0] == 250
    rows = daemon.wait_for_rows(3)
    assert sorted((row['rcpt'], row['orcpt']) for row in rows) == [
        ('one@in.test', 'rfc822;Desk@HERE.test'), ('three@in.test', 'rfc822;abuse@here.test'),
        ('two@in.test', 'rfc822;Desk@HERE.test')]
