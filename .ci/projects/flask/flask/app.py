"""Counts its visits. The database has to be healthy before this starts: it connects once, and ends if it cannot."""
import os

import psycopg2
from flask import Flask

app = Flask(__name__)
connection = psycopg2.connect(os.environ["DSN"])


@app.route("/")
def index():
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE IF NOT EXISTS visits (n int)")
    cursor.execute("INSERT INTO visits VALUES (1)")
    connection.commit()
    cursor.execute("SELECT count(*) FROM visits")
    return f"{os.environ['GREETING']} visits={cursor.fetchone()[0]} by={os.uname().nodename}\n"


app.run(host="0.0.0.0")
