-- include: base activities instances workers
-- Delete a worker and free what it holds. ARGV: nonce, again, source, worker.

if alive(ARGV[4]) then
  bury(ARGV[4], false)
  publish(ARGV[3])
end
return 1
