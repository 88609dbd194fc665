"""Small apps under each framework, oldest and newest: which keys the client's middleware gives their requests.

`make test-frameworks` makes an environment for each row of `matrix`; the ordinary tests run what is installed here.
"""
