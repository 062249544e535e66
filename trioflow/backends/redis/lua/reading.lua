-- Whole rows, and which of them a filter means.

local STATUSES = { 'running', 'suspended', 'completed', 'failed', 'cancelled', 'terminated' }

-- The row, then how many messages are unread, then ready_at or ''.
local function record(id, fields)
  local row = redis.call('HMGET', P .. 'i:' .. id, unpack(fields))
  local place = redis.call('HMGET', P .. 'i:' .. id, 'worker', 'queue', 'priority', 'deaths')
  local held = place[1] and place[1] ~= ''
  local suspect = place[4] and place[4] ~= ''
  local ready_at = held and redis.call('ZSCORE', P .. 'held:' .. place[1], id)
    or not held and ready_score(id, place[2] or '', place[3], suspect)
  if not ready_at or ready_at == 'inf' then
    ready_at = ''
  end
  return { id, row, redis.call('HLEN', P .. 'x:' .. id), ready_at }
end

-- Whether the value of a field is as one comparison of a filter demands.
local function compares(found, how, wanted)
  if how == '=' then
    return (found or '') == wanted
  end
  local number = tonumber(found or '')
  if not number then
    return false
  end
  return how == '<' and number < wanted or how == '>' and number > wanted
end

local function in_range(found, how, wanted)
  if not found then
    return false
  end
  return how == '<' and found < wanted or how == '<=' and found <= wanted
    or how == '>' and found > wanted or how == '>=' and found >= wanted
end

-- Whether one of an instance's rows in the index is as a filter demands.
local function has_attribute(packed, one)
  local name, how, word, quantity = one[1], one[2], one[3], one[4]
  local found = false
  each_indexed(packed, function(its_name, its_word, its_quantity)
    if its_name == name then
      found = found or (how == '=' and its_word == word)
        or (how ~= '=' and in_range(its_quantity, how, quantity))
    end
  end)
  return found
end

-- See troubles.lua; where that is not included, nothing is in trouble.
local in_trouble = nil

-- What can be told without the row is told first.
local function means(where, id)
  local prefix = where.id_prefix
  if prefix and string.sub(id, 1, #prefix) ~= prefix then
    return false
  end
  if not where.needs_row then
    return true
  end
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', unpack(where.fields))
  local packed = where.attributes[1] and redis.call('HGET', P .. 'i:' .. id, 'indexed')
  for _, one in ipairs(where.attributes) do
    if not has_attribute(packed, one) then
      return false
    end
  end
  if not row[1] or where.statuses and not where.statuses[row[1]] then
    return false
  end
  for n, one in ipairs(where.compared) do
    if not compares(row[n + 1], one[2], one[3]) then
      return false
    end
  end
  return not where.trouble or in_trouble ~= nil and in_trouble(where, id)
end

-- `compared` has field, how and value of each comparison, `attributes` name, how, word and quantity
-- of each condition, those that demand a word first; `needs_row` says whether an id and its
-- status are not enough. `trouble` is left for what is more than a status.
local function read_filter(packed)
  local where = cmsgpack.unpack(packed)
  where.fields = {}
  for n, one in ipairs(where.compared) do
    where.fields[n] = one[1]
  end
  where.needs_row = #where.compared + #where.attributes > 0
  if #where.status > 0 then
    where.statuses = {}
    for _, status in ipairs(where.status) do
      where.statuses[status] = true
    end
  end
  if where.trouble then
    local status = where.trouble == 'suspended' and 'suspended' or 'running'
    where.statuses = { [status] = not where.statuses or where.statuses[status] }
    where.needs_row = where.needs_row or where.trouble ~= 'suspended'
    where.trouble = where.trouble ~= 'suspended' and where.trouble or nil
  end
  return where
end
