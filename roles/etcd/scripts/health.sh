# A read through the cluster: passes only where there is a leader.
eval "$shell"
etcdctl --endpoints="$client_url" --command-timeout=5s endpoint health
