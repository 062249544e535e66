-- include: base activities instances workers
-- Delete a worker and free what it holds. ARGV: nonce, again, source, worker,
-- whether it died.

if alive(ARGV[4]) then
  remove_worker(ARGV[4], ARGV[5] == '1')
  publish(ARGV[3])
end
return 1
