"""Logging in: injectors at ringpost, as Python's smtplib does it."""
import base64
import hashlib
import smtplib

import pytest
from aiosmtpd.smtp import AuthResult

from harness import Smtp, send_message, until
from test_peers import Receiver

KEY = hashlib.pbkdf2_hmac('sha256', b'hashed words', b'salt of eight', 5000)
HASH = f"{{pbkdf2-sha256}}5000${base64.b64encode(b'salt of eight').decode()}$" \
       f"{base64.b64encode(KEY).decode()}"
CONFIG = '''{base}
<source 127.0.0.0/8>
    always-allow-relaying no
    log-commands yes
    SOURCE
</source>
<source members>
    always-allow-relaying yes
    require-auth yes
    process-x-job yes
    jobid-prefix m-{{Auth}}-
    dedup-window 1h
</source>
<smtp-user anna>
    password "plain words"
    source members
</smtp-user>
<smtp-user hans>
    password "HASH"
    source members
    max-rcpt-in-rate 2/h
</smtp-user>
<smtp-user guest>
    password "of no use"
</smtp-user>
<domain *>
    smtp-hosts [RECEIVER]:2525
</domain>
'''
MESSAGE = 'Subject: x\r\nX-Job: 7\r\n\r\nbody\r\n'


@pytest.fixture(name='relay')
def relay_fixture(world):
    """A daemon with users, whose source has these settings, and what its receiver gets."""
    def start(source):
        receiver = Receiver(world)
        text = CONFIG.replace('SOURCE', source).replace('RECEIVER', receiver.address)
        hashed = HASH.replace('{', '{{').replace('}', '}}')
        return world.daemon(text.replace('HASH', hashed)).start(), receiver

    return start


def log_in(daemon, mechanism, user, password):
    """smtplib with one mechanism alone; the connection."""
    client = smtplib.SMTP(daemon.listen, 2525, timeout=60)
    client.ehlo('client.test')
    client.user, client.password = user, password
    code, text = client.auth(mechanism, getattr(client, 'auth_' + mechanism.lower()
                                                .replace('-', '_')))
    return client, code, text


def refusal(daemon, mechanism, user, password):
    with pytest.raises(smtplib.SMTPAuthenticationError) as error:
        log_in(daemon, mechanism, user, password)
    return error.value.smtp_code, error.value.smtp_error


def test_logins(relay):
    """Each mechanism; who logged in stands in header, job and accounting; nobody else may send."""
    daemon, receiver = relay('allow-unencrypted-plain-auth yes')
    for mechanism, user, password in [('PLAIN', 'anna', 'plain words'),
                                      ('LOGIN', 'anna', 'plain words'),
                                      ('CRAM-MD5', 'anna', 'plain words'),
                                      ('PLAIN', 'hans', 'hashed words'),
                                      ('LOGIN', 'HANS', 'hashed words')]:
        client, code, _ = log_in(daemon, mechanism, user, password)
        assert code == 235
        assert client.sendmail('a@sender.test', ['b@one.test'], MESSAGE) == {}
        client.quit()
    rows = daemon.wait_for_rows(5)
    assert sorted(row['jobId'] for row in rows) == ['m-anna-7'] * 3 + ['m-hans-7'] * 2
    assert all(b' with ESMTPA ' in content or b' with ESMTPA\r' in content
               for _, _, content, _ in receiver.wait(5))
    # The third recipient is more than the user's own rate.
    client, _, _ = log_in(daemon, 'PLAIN', 'hans', 'hashed words')
    with pytest.raises(smtplib.SMTPDataError) as error:
        client.sendmail('a@sender.test', ['b@one.test'], MESSAGE)
    assert error.value.smtp_code == 452
    # Wrong, unknown, hashed without the password at hand: one answer.
    for mechanism, user, password in [('PLAIN', 'anna', 'plain word'), ('LOGIN', 'nobody', 'x'),
                                      ('CRAM-MD5', 'anna', 'x'), ('CRAM-MD5', 'nobody', ''),
                                      ('CRAM-MD5', 'hans', 'hashed words'),
                                      ('PLAIN', 'hans', 'plain words')]:
        assert refusal(daemon, mechanism, user, password) == \
            (535, b'5.7.8 user or password is wrong')
    # Without a login, and with one whose source lets nobody relay.
    client = Smtp(daemon.listen)
    assert client.command('EHLO client.test')[1].split('\n').count('AUTH PLAIN LOGIN CRAM-MD5') == 1
    assert client.command('MAIL FROM:<a@sender.test>')[0] == 250
    assert client.command('RCPT TO:<b@one.test>')[0] == 550
    guest, code, _ = log_in(daemon, 'PLAIN', 'guest', 'of no use')
    assert code == 235 and guest.mail('a@sender.test')[0] == 250
    assert guest.rcpt('b@one.test')[0] == 550
    secrets = [b'plain words', b'hashed words', b'of no use', HASH.encode(), KEY]
    secrets += [base64.b64encode(b'\0' + user + b'\0' + password) for user, password in
                [(b'anna', b'plain words'), (b'hans', b'hashed words')]]
    secrets += [base64.b64encode(secret) for secret in secrets[:3]]
    log = daemon.program.log()
    assert 'AUTH PLAIN' in log and 'AUTH LOGIN' in log
    told = log.encode() + str(rows).encode()
    assert not [secret for secret in secrets if secret in told]


def test_nobody_has_sent_anothers_mail_before(relay):
    """Users of one source may happen on the same Message-ID: only their own mail is a repetition."""
    daemon, _ = relay('allow-unencrypted-plain-auth yes')
    message = 'Message-ID: <1@app.test>\r\n' + MESSAGE.replace('X-Job: 7\r\n', '')
    for user, password in [('anna', 'plain words'), ('hans', 'hashed words')] * 2:
        client, _, _ = log_in(daemon, 'PLAIN', user, password)
        assert client.sendmail('a@sender.test', ['b@one.test'], message) == {}
        client.quit()
    daemon.wait_for(10, delivered=2, accepted_messages=2, duplicate_messages=2)


def test_a_reload_takes_logins_and_rights_away(relay):
    """Of connections that are there already: a stolen account is of no use once it has another
    password, or is gone; and who may not relay any more does not."""
    daemon, _ = relay('allow-unencrypted-plain-auth yes')
    with open(daemon.config_path, encoding='utf-8') as config:
        text = config.read()

    def rewrite(old, new):
        assert old in text
        with open(daemon.config_path, 'w', encoding='utf-8') as config:
            config.write(text.replace(old, new))
        assert daemon.cli('reload').returncode == 0

    def attempt(client):
        """The replies to MAIL, and to RCPT where there was one."""
        code = client.mail('a@sender.test')[0]
        codes = [code] + ([client.rcpt('b@one.test')[0]] if code == 250 else [])
        return codes if code == 421 else codes + [client.rset()[0]]

    clients = [log_in(daemon, 'PLAIN', 'anna', 'plain words')[0] for _ in range(3)]
    other = log_in(daemon, 'PLAIN', 'hans', 'hashed words')[0]
    rewrite('plain words', 'other words')
    assert attempt(clients[0]) == [421] and attempt(other) == [250, 250, 250]
    rewrite('max-rcpt-in-rate 2/h', 'max-rcpt-in-rate 1/h')
    assert attempt(clients[1]) == [250, 250, 250]
    assert other.sendmail('a@sender.test', ['b@one.test'], MESSAGE) == {}
    with pytest.raises(smtplib.SMTPDataError) as error:
        other.sendmail('a@sender.test', ['b@one.test'], MESSAGE)
    assert error.value.smtp_code == 452
    rewrite('<smtp-user anna>', '<smtp-user hanna>')
    assert attempt(clients[1]) == [421] and attempt(other) == [250, 250, 250]
    rewrite('always-allow-relaying yes', 'always-allow-relaying no')
    assert attempt(clients[2]) == [250, 550, 250]
    rewrite('<source members>', '<source members>\nsmtp-service no')
    assert attempt(clients[2]) == [421] and attempt(other) == [421]


def test_which_way_a_user_may_name(relay):
    """His own list narrows that of the source that he shares with others, and never widens it."""
    daemon, _ = relay('allow-unencrypted-plain-auth yes')
    with open(daemon.config_path, encoding='utf-8') as config:
        text = config.read().replace('max-rcpt-in-rate 2/h', '')
    ways = ''.join(f'<virtual-mta {name}>\n    smtp-source-host {daemon.source} {name}.test\n'
                   '</virtual-mta>\n' for name in ('one', 'two', 'far'))
    text = text.replace('<source members>', f'{ways}<source members>\n'
                        'process-x-virtual-mta yes\nallow-virtual-mta one,two')
    text = text.replace('<smtp-user hans>', '<smtp-user hans>\nallow-virtual-mta two,far')

    def replies(client):
        codes = []
        for name in ('one', 'two', 'far'):
            client.mail('a@sender.test')
            client.rcpt('b@one.test')
            codes.append(client.data(f'X-Virtual-MTA: {name}\r\nSubject: {name}\r\n\r\n.\r\n'))
        return [code for code, _ in codes], b' '.join(reply for _, reply in codes)

    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(text)
    assert daemon.cli('reload').returncode == 0
    anna, _, _ = log_in(daemon, 'PLAIN', 'anna', 'plain words')
    hans, _, _ = log_in(daemon, 'PLAIN', 'hans', 'hashed words')
    codes, told = replies(anna)
    assert codes == [250, 250, 550] and b'this source may not use' in told
    codes, told = replies(hans)
    assert codes == [550, 250, 550] and b'this user may not use' in told
    assert sorted(row['vmta'] for row in daemon.wait_for_rows(3)) == ['one', 'two', 'two']
    # Of a connection that is there already, it follows a reload.
    with open(daemon.config_path, 'w', encoding='utf-8') as config:
        config.write(text.replace('allow-virtual-mta two,far', 'allow-virtual-mta one'))
    assert daemon.cli('reload').returncode == 0
    assert replies(hans)[0] == [250, 550, 550]


def test_passwords_in_the_clear_and_failures(relay):
    """Without TLS only what hides the password; after three failures in the hour nothing."""
    daemon, _ = relay('smtp-max-auth-failure-rate 3/h')
    client = Smtp(daemon.listen)
    assert 'AUTH CRAM-MD5' in client.command('EHLO client.test')[1].split('\n')
    assert client.command('AUTH PLAIN AGEAYg==')[0] == 538
    assert client.command('AUTH XOAUTH2')[0] == 504
    for _ in range(3):
        assert refusal(daemon, 'CRAM-MD5', 'anna', 'wrong')[0] == 535
    assert refusal(daemon, 'CRAM-MD5', 'anna', 'plain words')[0] == 454
    until(lambda: 'smtp-max-auth-failure-rate' in daemon.program.log(), 5, 'a line of the log')


def test_starttls_first(relay):
    """With require-starttls-before-auth nothing is offered in the clear."""
    daemon, _ = relay('allow-unencrypted-plain-auth yes\nrequire-starttls-before-auth yes')
    client = Smtp(daemon.listen)
    assert 'AUTH' not in client.command('EHLO client.test')[1]
    assert client.command('AUTH CRAM-MD5')[0] == 538


class Guarded(Receiver):
    """Takes mail of "me" with "my words" alone, by the mechanisms that are given."""

    def __init__(self, world, exclude=(), password=b'my words'):
        def is_right(server, session, envelope, mechanism, data):
            self.tried.append(mechanism)
            return AuthResult(success=data.login == b'me' and data.password == password,
                              handled=False)

        self.tried = []
        super().__init__(world, authenticator=is_right, auth_require_tls=False,
                         auth_required=True, auth_exclude_mechanism=exclude)


@pytest.mark.parametrize('mechanism, other', [('PLAIN', 'LOGIN'), ('LOGIN', 'PLAIN')])
def test_at_a_receiver(world, mechanism, other):
    """Ours is the login that the receiver wants; a refused one puts the mail off."""
    receiver = Guarded(world, exclude=[other])
    config = f'''{{base}}
<domain *>
    smtp-hosts [{receiver.address}]:2525
    auth-username me
    auth-password "my words"
    use-unencrypted-plain-auth yes
    log-commands yes
</domain>
<domain wrong.test>
    auth-password "others' words"
    retry-after 1h
    bounce-upon-5xx-greeting yes
</domain>
<domain hidden.test>
    use-unencrypted-plain-auth no
    retry-after 1h
</domain>
'''
    daemon = world.daemon(config).start()
    for domain in ('one.test', 'wrong.test', 'hidden.test'):
        assert send_message(daemon.listen, 'a@sender.test', [f'b@{domain}'],
                            b'Subject: x\r\n\r\nx\r\n')[0] == 250
    receiver.wait(1)
    assert [row['rcpt'] for row in daemon.wait_for_rows(1)] == ['b@one.test']
    until(lambda: len(receiver.tried) >= 2, 10, 'the login that is refused')
    for queue, reason in [('wrong.test/v', '535 5.7.8'), ('hidden.test/v', 'without TLS')]:
        until(lambda q=queue, r=reason: r in daemon.ask('explain', q)['lastError'], 12, reason)
    assert receiver.tried[0] == mechanism
    assert len(receiver.messages) == 1 and len(daemon.rows()) == 1
    log = daemon.program.log()
    assert 'my words' not in log and base64.b64encode(b'my words').decode() not in log
    assert base64.b64encode(b'\0me\0my words').decode() not in log
