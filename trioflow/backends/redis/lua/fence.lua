-- include: base activities instances workers
-- Close the store, and end all workers; or, without a text, open it.
-- ARGV: nonce, again, source, what is to be known of the move or '', the text or '', the id of the move
-- if this is its destination or ''; and what was known before, or ''. Returns 0 if that is not so.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
if (redis.call('HGET', P .. 'fence', 'fence') or '') ~= ARGV[7] then
  return 0
end
redis.call('DEL', P .. 'fence')
if ARGV[4] ~= '' then
  redis.call('HSET', P .. 'fence', 'fence', ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('HSET', P .. 'fence', 'text', ARGV[5], 'filling', ARGV[6])
  for _, worker in ipairs(redis.call('HKEYS', P .. 'names')) do
    remove_worker(worker, false, true)
  end
end
publish(ARGV[3])
return answer(ARGV[1], { 1 })[1]
