"""Counts its visits in the database, and says which container answered."""
import os
import time

import mysql.connector
from flask import Flask

app = Flask(__name__)


def database():
    """A connection; waits for a server that is only starting."""
    for attempt in range(60):
        try:
            return mysql.connector.connect(host="db", user="root", password="password", database="example")
        except mysql.connector.Error:
            if attempt == 59:
                raise
            time.sleep(0.5)


@app.route("/")
def index():
    connection = database()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE IF NOT EXISTS visits (id INT AUTO_INCREMENT PRIMARY KEY)")
    cursor.execute("INSERT INTO visits VALUES ()")
    connection.commit()
    cursor.execute("SELECT COUNT(*) FROM visits")
    count = cursor.fetchone()[0]
    connection.close()
    return f"visits={count} by={os.uname().nodename}\n"


app.run(host="0.0.0.0", port=8000)
