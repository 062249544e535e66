-- include: base activities instances workers
-- Close the store, and end all workers; or, without a text, open it.
-- ARGV: nonce, again, source, what is to be known of the move or '', the text or '', the id of the move
-- if this is its destination or ''; what was known before, or ''; and the id of the move if the store is
-- being cleared, or ''. Returns 0 if what was known is not so; and the names of workers that run an older trioflow, if there are any: nothing is done then.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
if (redis.call('HGET', P .. 'fence', 'fence') or '') ~= ARGV[7] then
  return 0
end

-- The scripts of those do not look for a fence: they would register again, and go on. One that is silent
-- is taken for dead when its lease is over.
local function older_workers()
  local older, beats = {}, redis.call('ZRANGE', P .. 'workers', 0, -1, 'WITHSCORES')
  for at = 1, #beats, 2 do
    local worker = beats[at]
    local packed = redis.call('HGET', P .. 'serves', worker) or ''
    local read, serves = pcall(cmsgpack.unpack, packed)
    local known = read and type(serves) == 'table'
    local lease = known and serves[3] or 60
    if not (known and serves[4]) and tonumber(beats[at + 1]) + lease >= now then
      local name = redis.call('HGET', P .. 'names', worker) or ''
      older[#older + 1] = name ~= '' and name or worker
    end
  end
  return older
end

if ARGV[5] ~= '' then
  local older = older_workers()
  if #older > 0 then
    return older
  end
end
redis.call('DEL', P .. 'fence')
if ARGV[4] ~= '' then
  redis.call('HSET', P .. 'fence', 'fence', ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('HSET', P .. 'fence', 'text', ARGV[5], 'filling', ARGV[6], 'emptying', ARGV[8])
  for _, worker in ipairs(redis.call('HKEYS', P .. 'names')) do
    remove_worker(worker, false, true)
  end
end
publish(ARGV[3])
return answer(ARGV[1], { 1 })[1]
