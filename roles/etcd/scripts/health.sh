# A read through the cluster: passes only where there is a leader.
exec etcdctl --endpoints="http://$address:$client_port" --command-timeout=5s endpoint health
