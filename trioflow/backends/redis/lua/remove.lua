-- include: base fenced activities instances reading
-- Remove finished instances, the oldest first, a part of them at a time.
-- ARGV: nonce, again, source, filter, limit, look at how many, '' or ids, how many were looked at and kept.
-- Returns: how many are removed, how many were looked at and kept, whether there may be more.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local where = read_filter(ARGV[4])
where.needs_row = where.needs_row or where.statuses
local limit, size, kept = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])

local function remove(id)
  local execution = tonumber(redis.call('HGET', P .. 'i:' .. id, 'execution') or 0) or 0
  for number = 1, execution do
    drop_execution(id, number)
  end
  redis.call('UNLINK', P .. 'r:' .. id)
  forget_instance(id)
end

local found
if ARGV[7] ~= '' then
  found = {}
  for _, id in ipairs(cmsgpack.unpack(ARGV[7])) do
    local at = redis.call('ZSCORE', P .. 'finished', id)
    if at then
      found[#found + 1] = { id = id, at = tonumber(at) }
    end
  end
  table.sort(found, function(a, b) return a.at < b.at end)
else
  local until_at = where.finished_before and '(' .. exact(where.finished_before) or '+inf'
  local ids = redis.call(
    'ZRANGEBYSCORE', P .. 'finished', '-inf', until_at, 'LIMIT', kept, size
  )
  found = {}
  for n, id in ipairs(ids) do
    found[n] = { id = id }
  end
end

local removed, gone = 0, {}
for _, one in ipairs(found) do
  if removed == limit then
    break
  end
  if gone[one.id] then
    -- named twice
  elseif means(where, one.id) then
    gone[one.id] = true
    remove(one.id)
    removed = removed + 1
  else
    kept = kept + 1
  end
end
flush()
if removed > 0 then
  publish(ARGV[3])
end
return answer(ARGV[1], { removed, kept, (#found == size or removed == limit) and 1 or 0 })
