"""The WSGI entry for uWSGI and the command line: `memo.wsgi:app`."""

from memo import create_app

app = create_app()
