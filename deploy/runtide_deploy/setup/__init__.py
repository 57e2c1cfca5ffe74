"""What has to be there before the processes start, where Kafka and PostgreSQL are not ours: topics, roles, the database.

``runtide up`` sees to it by itself; containers run ``python -m runtide_deploy.setup`` once before the others.
"""
